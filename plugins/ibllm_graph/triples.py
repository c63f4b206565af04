"""Facts from files: what a knowledge graph is before it has vectors. Torch-free."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import attrs

from ibllm.plugin import UserError, nearest
from ibllm_graph.emojibase import read_emojibase
from ibllm_graph.rdf import read_ntriples, read_rdf
from ibllm_graph.statements import Statement, spoken, text_of
from ibllm_graph.wordnet import read_wordnet

Fact = tuple[int, int, int]

#: Ontologies that come with the package.
ONTOLOGIES: Mapping[str, Path] = {"shapes": Path(__file__).parent / "graphs" / "shapes.tsv"}
#: The relation between a word and the things that it may mean, where there are several.
MEANS = "may mean"
#: Ending of a file, or its name → what it is.
_ENDINGS = {
    ".tsv": "tsv", ".txt": "tsv", ".nt": "ntriples", ".ttl": "rdf", ".rdf": "rdf", ".owl": "rdf", ".xml": "rdf", ".jsonld": "rdf", ".n3": "rdf",
    ".tgz": "emojibase", ".noun": "wordnet", ".verb": "wordnet", ".adj": "wordnet", ".adv": "wordnet",
}  # fmt: skip


@attrs.frozen(eq=False)
class Graph:
    """Entities by number, relations by number, and the facts between them, each once and in the file's order.

    Attributes:
        facts: (subject, relation, object).
        names: name, as a text writes it → its entity.
        notes: what a user should know of the file, a sentence each.
        digest: of entities, relations and facts.
    """

    entities: Sequence[str]
    relations: Sequence[str]
    facts: Sequence[Fact]
    names: Mapping[str, int]
    notes: Sequence[str]
    digest: str

    def said(self, fact: Fact) -> str:
        """A fact in words."""
        subject, relation, thing = fact
        return f"{spoken(self.entities[subject])} – {spoken(self.relations[relation])} – {spoken(self.entities[thing])}"


def read_tsv(path: Path, languages: Sequence[str]) -> Iterator[Statement]:
    """Subject, relation and object of a line, parted by tabs; lines that begin with # say nothing.

    Raises:
        UserError: a line has another number of columns, or an empty one.
    """
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 3 or not all(cells):
            found = f"{len(cells)} column{'' if len(cells) == 1 else 's'}" if len(cells) != 3 else f"column {cells.index('') + 1} is empty"
            raise UserError(f"{path}:{number}: {found}: expected subject, relation and object, parted by tabs")
        yield Statement(cells[0], cells[1], cells[2])


FORMATS: Mapping[str, Callable[[Path, Sequence[str]], Iterator[Statement]]] = {
    "tsv": read_tsv,
    "ntriples": read_ntriples,
    "rdf": read_rdf,
    "wordnet": read_wordnet,
    "emojibase": read_emojibase,
}


def file_format(path: str, said: str) -> str:
    """The format of a file, as it is said or by its ending. Raises `UserError` where neither tells."""
    if said != "auto" or not path:
        return "tsv" if said == "auto" else said
    if Path(path).is_dir():
        return "wordnet"
    ending = Path(path).suffix.lower()
    if ending not in _ENDINGS:
        raise UserError(f"{path}: its ending does not say what it is: expected format = {', '.join(FORMATS)}")
    return _ENDINGS[ending]


def graph_of(
    path: str,
    kind: str,
    ontology: str,
    *,
    relations: tuple[str, ...],
    names: tuple[str, ...],
    transitive: tuple[str, ...],
    languages: tuple[str, ...],
) -> Graph:
    """The graph of a file, or of an ontology that comes with the package; read again only where the file has changed.

    Raises:
        UserError: the file is not there, is not well, or holds no fact; a relation that is named has none.
    """
    file = Path(path) if path else ONTOLOGIES[ontology]
    if not file.exists():
        raise UserError(f"{file}: there is no such file: the graph's facts are needed wherever the model is opened")
    inside = sorted(file.iterdir()) if file.is_dir() else [file]
    stamp = tuple((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in inside)
    return _graph(file, kind, stamp, relations, names, transitive, languages)


@lru_cache(maxsize=8)
def _graph(
    file: Path,
    kind: str,
    stamp: tuple[object, ...],
    relations: tuple[str, ...],
    names: tuple[str, ...],
    transitive: tuple[str, ...],
    languages: tuple[str, ...],
) -> Graph:
    statements, called, skipped = dict[tuple[str, str, str], None](), list[tuple[str, str]](), 0
    for one in FORMATS[kind](file, languages):
        if _last(one.relation) in names:
            if not one.language or one.language.partition("-")[0] in languages:
                called.append((one.object, one.subject))
        elif one.literal:
            skipped += 1
        elif one.subject != one.object:
            statements.setdefault((one.subject, one.relation, one.object))
    there = list(dict.fromkeys(relation for _, relation, _ in statements))
    for option, wanted in (("relations", relations), ("transitive", transitive)):
        for strange in (relation for relation in wanted if relation not in there):
            near = nearest(strange, there)
            hint = f"; did you mean {near}?" if near else f": it has {', '.join(there) or 'none'}"
            raise UserError(f"{file}: {option} names {strange!r}, of which the file has no fact{hint}")
    kept = [one for one in statements if not relations or one[1] in relations]
    if not kept:
        raise UserError(f"{file}: it holds no fact between two entities")
    kept += [one for relation in transitive for one in _closure(kept, relation)]
    notes = [f"{file.name}: {skipped:,} values that are no entities (numbers, texts) are left out of the graph"] if skipped else []
    return _numbered(list(dict.fromkeys(kept)), called, notes)


def _closure(statements: Sequence[tuple[str, str, str]], relation: str) -> Iterator[tuple[str, str, str]]:
    """All that follows of a transitive relation, what follows in fewer steps first."""
    above: defaultdict[str, list[str]] = defaultdict(list)
    for subject, kind, thing in statements:
        if kind == relation:
            above[subject].append(thing)
    for subject in list(above):
        seen, level = {subject, *above[subject]}, above[subject]
        while level:
            level = list(dict.fromkeys(more for one in level for more in above.get(one, ()) if more not in seen))
            seen.update(level)
            yield from ((subject, relation, more) for more in level)


def _numbered(statements: Sequence[tuple[str, str, str]], called: Iterable[tuple[str, str]], notes: Sequence[str]) -> Graph:
    """A name that several entities have gets an entity of its own, a word that may mean each of them."""
    entities = list(dict.fromkeys(one for subject, _, thing in statements for one in (subject, thing)))
    known = set(entities)
    means: defaultdict[str, list[str]] = defaultdict(list)
    named = [(name, entity) for name, entity in called if entity in known]
    have = {entity for _, entity in named}
    # An IRI with a name is called by that alone, a nameless thing by nothing; everything else by what it is called in the file.
    own = [entity for entity in entities if not entity.startswith("_:") and (entity not in have or "/" not in entity)]
    for name, entity in [*named, *((spoken(entity), entity) for entity in own)]:
        if entity not in means[" ".join(name.split())]:
            means[" ".join(name.split())].append(entity)
    statements = list(statements)
    for name, meant in means.items():
        if len(meant) > 1:
            word = f"{name} (word)"
            statements += [(word, MEANS, entity) for entity in meant]
            entities.append(word)
            means[name] = [word]
    relations = list(dict.fromkeys(relation for _, relation, _ in statements))
    number, of = {one: n for n, one in enumerate(entities)}, {one: n for n, one in enumerate(relations)}
    facts = [(number[subject], of[relation], number[thing]) for subject, relation, thing in statements]
    words = "\n".join([*entities, "", *relations, "", *(f"{s} {r} {o}" for s, r, o in facts)])
    digest = hashlib.sha256(words.encode()).hexdigest()
    return Graph(entities, relations, facts, {name: number[meant[0]] for name, meant in means.items() if name}, notes, digest)


def _last(relation: str) -> str:
    """The last piece of an IRI."""
    return re.split(r"[#/:]", relation)[-1]
