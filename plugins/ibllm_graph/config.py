"""The options of knowledge graphs and of what uses them. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from ibllm.plugin import Config, LossConfig, OptionError, UserError, check_heads, option
from ibllm_graph.triples import FORMATS, ONTOLOGIES, Graph, file_format, graph_of


@attrs.frozen(kw_only=True)
class GraphConfig(Config):
    """Facts (subject, relation, object) from a file, or an ontology that comes with the package; each entity and each relation has a vector.

    An entity is linked to every place in a text where one of its names stands.
    """

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens are linked to entities")
    ontology: str = option("shapes", help="the ontology that comes with the package, where no path is given", choices=tuple(ONTOLOGIES))
    path: str = option(
        "", help="a file of facts, WordNet's folder, or the archive of emojibase-data; empty for `ontology`", path="file or folder"
    )
    format: str = option(
        "auto",
        help="what the file is; auto goes by its ending: .tsv, .nt, .ttl, .rdf, .owl, .jsonld, data.noun, .tgz",
        choices=("auto", *FORMATS),
    )
    relations: tuple[str, ...] = option((), help="keep the facts of these relations alone; empty for all")
    names: tuple[str, ...] = option(
        ("name", "label", "alias", "prefLabel", "altLabel"),
        help="relations whose objects are names of the subject and no entities; of an IRI its last piece counts",
    )
    transitive: tuple[str, ...] = option((), help="relations to whose facts all that follow are added: a → b and b → c give a → c")
    languages: tuple[str, ...] = option(("en",), help="languages of the names, where the file says which they are in")
    embedding: str = option(
        "transe",
        help="how plausible a fact is: −|s + r − o|₁ (TransE, Bordes et al. 2013), −|s · r − o|₂ with complex numbers and r a rotation (RotatE, Sun et al. "
        "2019), or Σ s r o (DistMult, Yang et al. 2015)",
        choices=("transe", "rotate", "distmult"),
    )
    width: int | None = option(32, help="k, numbers of an entity's vector", ge=2)
    layers: int = option(0, help="layers of a relational graph network (R-GCN) that the vectors go through; 0 for none", ge=0)
    bases: int = option(4, help="matrices that a layer's relations are mixed of (basis decomposition)", ge=1)
    neighbours: int = option(6, help="facts about an entity that are handed over with it, the first in the file", ge=0)
    held_out: str = option(
        "refuse",
        help="what becomes of a run whose graph tells what its held-out splits hide: facts about names, or pairs of names, that no training text has; "
        "they are counted either way",
        choices=("refuse", "allow"),
    )

    def __attrs_post_init__(self) -> None:
        if self.embedding == "rotate" and (self.width or 0) % 2:
            raise OptionError("width", self.width, "an even number, for RotatE's are complex")

    def provides(self) -> frozenset[str]:
        return frozenset({"knowledge"})

    def graph(self) -> Graph:
        """The facts, read once a process. Raises `UserError` with file and line where the file is not well."""
        return graph_of(
            self.path,
            file_format(self.path, self.format),
            self.ontology,
            relations=self.relations,
            names=self.names,
            transitive=self.transitive,
            languages=self.languages,
        )

    def check(self) -> Iterable[OptionError]:
        """The file is read."""
        try:
            self.graph()
        except UserError as error:
            yield OptionError("path" if self.path else "relations", self.path or self.relations, f"a graph that can be read: {error}")

    def provenance(self) -> Mapping[str, str]:
        """Hash of the file that the facts are from."""
        path = Path(self.path) if self.path else ONTOLOGIES[self.ontology]
        if not path.is_file():
            return {}
        return {"graph": self.path or self.ontology, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@attrs.frozen(kw_only=True)
class KnowledgeTextEncoderConfig(Config):
    """E_x: another text encoder, and after it attention to what a knowledge graph says of the text's words."""

    tokenizer: str = option("text", help="the [tokenizers.NAME] table whose tokens it reads")
    width: int | None = option(
        None, help="d, width of the latent it gives, the same as the other encoder's; follows model.width when left out", ge=1
    )
    reads: str = option("words", help='the [model.shared.NAME] with kind = "text_encoder" that reads the text', part="text_encoder")
    graph: str = option("facts", help="the [model.shared.NAME] that is the knowledge graph", part="backbone")
    join: str = option(
        "attend",
        help="'attend': each place attends to the entities and facts; 'tokens': these stand beside the text's places as further tokens, and each "
        "place attends to all of them",
        choices=("attend", "tokens"),
    )
    heads: int = option(4, help="attention heads", ge=1)
    ratio: float = option(2.0, help="width of the feed-forward layer after it relative to the width", gt=0)
    dropout: float = option(0.0, help="probability that a number it adds is dropped in training", ge=0, lt=1)

    def __attrs_post_init__(self) -> None:
        check_heads(self.width, self.heads)
        if self.reads == "text_encoder":
            raise OptionError("reads", self.reads, 'the name of a table [model.shared.NAME] with kind = "text_encoder"')

    def provides(self) -> frozenset[str]:
        return frozenset({"soft_tokens"})

    def needs(self) -> frozenset[str]:
        return frozenset({f"{self.reads}.soft_tokens", f"{self.graph}.knowledge"})


@attrs.frozen(kw_only=True)
class LinkPredictionConfig(LossConfig):
    """Facts of the graph against facts with a wrong subject or object, weighed by how plausible these are (self-adversarial: Sun et al. 2019, eq. 5)."""

    graph: str = option("facts", help="the [model.shared.NAME] that is the knowledge graph", part="backbone")
    facts: int = option(1, help="facts for each item of the batch", ge=1)
    negatives: int = option(8, help="wrong entities for each fact", ge=1)
    margin: float = option(6.0, help="γ, the distance at which a fact is as plausible as not; for TransE and RotatE", gt=0)
    temperature: float = option(1.0, help="α: how much more plausible wrong facts weigh more; 0 weighs all alike", ge=0)

    def needs(self) -> frozenset[str]:
        return frozenset({f"{self.graph}.knowledge"})
