"""Names are found in texts, vectors are what the papers say, and a text encoder is told what the graph knows of its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_graph.audit import leaked
from ibllm_graph.backbone import KnowledgeGraph
from ibllm_graph.config import GraphConfig, KnowledgeTextEncoderConfig
from ibllm_graph.network import Edges, RelationalLayer
from ibllm_graph.plausibility import distmult, rotate, self_adversarial, transe
from ibllm_graph.text_encoder import KnowledgeTextEncoder
from ibllm_testing.stand_ins import TinyTextEncoder
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer

from ibllm.plugin import Context, Phrases, UserError, to_tokens

TEXTS = ("a large red circle at the top left", "a small blue ring at the bottom right and a red square left of a ring")


def tokenizer() -> WordTokenizer:
    made = WordTokenizer(WordConfig(size=40, max_length=24), Context())
    made.train(TEXTS)
    return made


def facts(tmp_path: Path, content: str = "", **options: Any) -> KnowledgeGraph:
    path = tmp_path / "facts.tsv"
    path.write_text(content, encoding="utf-8")
    torch.manual_seed(0)
    return KnowledgeGraph(GraphConfig(path=str(path), **options), Context(tokenizer=tokenizer()))


def test_the_longest_name_is_found_and_none_within_it():
    words, names = tokenizer(), {"left": 0, "top left": 1, "left of": 2, "red": 3, "Ring": 4, "zebra": 5, "red zebra": 6, "at the top": 7}
    links = Phrases(names, words)
    ids = to_tokens(words, [TEXTS[0], TEXTS[1]]).ids
    found, length = links(ids)
    named = [[(n, int(e), int(k)) for n, (e, k) in enumerate(zip(*row, strict=True)) if e >= 0] for row in zip(found, length, strict=True)]
    # "at the top" begins before "top left" and keeps it out, and that one "left".
    assert named[0] == [(3, 3, 1), (5, 7, 3)]
    assert named[1] == [(4, 4, 1), (11, 3, 1), (13, 2, 2), (16, 4, 1)]
    assert links.known == {0, 1, 2, 3, 4, 7}
    # By itself a token is what it names alone, whatever number the next has.
    alone = links(torch.arange(words.size)[None])[0][0]
    assert int(alone[words.encode_one("left")[0]]) == 0 and int((alone >= 0).sum()) == 3


def test_scores_are_as_the_papers_say():
    torch.manual_seed(0)
    s, r, o = torch.randn(3, 5, 8, dtype=torch.float64)
    unit = [(x / x.abs().sum(-1, keepdim=True)).numpy() for x in (s, o)]
    np.testing.assert_allclose(transe(s, r, o), -np.abs(unit[0] + r.numpy() - unit[1]).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(distmult(s, r, o), np.einsum("bk,bk,bk->b", s, r, o), rtol=1e-12)
    complex_s, complex_o = (x[:, :4].numpy() + 1j * x[:, 4:].numpy() for x in (s, o))
    np.testing.assert_allclose(
        rotate(s, r[:, :4], o), -np.linalg.norm(complex_s * np.exp(1j * r[:, :4].numpy()) - complex_o, axis=-1), rtol=1e-9
    )


def test_wrong_facts_weigh_by_how_plausible_they_are():
    torch.manual_seed(0)
    right, wrong = torch.randn(3, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    known = torch.tensor([[False] * 4, [True, False, True, False], [True] * 4])
    w = np.where(known.numpy(), 0, np.exp(0.5 * wrong.numpy()))
    p = w / np.where(w.sum(-1, keepdims=True) == 0, 1, w.sum(-1, keepdims=True))
    wanted = np.log1p(np.exp(-right.numpy())) + (p * np.log1p(np.exp(wrong.numpy()))).sum(-1)
    np.testing.assert_allclose(self_adversarial(right, wrong, known, 0.5), wanted, rtol=1e-10)


def test_a_layer_sums_over_relations_and_their_inverses():
    torch.manual_seed(0)
    told, n, r = [(0, 0, 1), (0, 0, 2), (2, 1, 1), (3, 1, 1)], 5, 2
    layer, h = RelationalLayer(4, r, 3).double(), torch.randn(n, 4, dtype=torch.float64)
    matrices = torch.einsum("rb,bkl->rkl", layer.mix, layer.bases)
    wanted = layer.own(h).detach().clone()
    for relation, pairs in enumerate([[(s, o) for s, k, o in told if k == kind] for kind in range(r)]):
        for matrix, edges in ((matrices[relation], pairs), (matrices[relation + r], [(o, s) for s, o in pairs])):
            for target in range(n):
                sources = [source for source, to in edges if to == target]
                if sources:
                    wanted[target] += torch.stack([h[source] @ matrix for source in sources]).mean(0).detach()
    torch.testing.assert_close(layer(h, Edges(told, n, r)), wanted, rtol=1e-10, atol=1e-12)


def test_facts_that_are_not_handed_over_and_entities_without_a_word_are_counted(tmp_path: Path):
    graph = facts(tmp_path, "red\tis\tcolour\nred\tlike\tblue\nred\tlike\tzebra\n", neighbours=1)
    vectors, kinds, there = graph.facts(to_tokens(graph.tokenizer, [TEXTS[0]]).ids)
    assert there[0].sum() == 2 and bool(there[0, 3].all())
    assert torch.equal(vectors[0, 3], graph.entities[[0, 1]]) and kinds[0, 3].tolist() == [4, 0]
    assert not vectors[0, :3].any()
    assert graph.notes() == [
        "2 of the graph's 4 entities have no name in the vocabulary: colour, zebra",
        "2 facts about 1 entities are beyond neighbours = 1 and are not handed over with them",
    ]


def knowing(graph: KnowledgeGraph, **options: Any) -> tuple[KnowledgeTextEncoder, TinyTextEncoder]:
    torch.manual_seed(1)
    reader = TinyTextEncoder(graph.tokenizer.size, 16)
    context = Context(width=16, tokenizer=graph.tokenizer, shared={"words": reader, "facts": graph})
    return KnowledgeTextEncoder(KnowledgeTextEncoderConfig(**options), context), reader


@pytest.mark.parametrize(("join", "layers", "reached"), [("attend", 0, {"red", "colour"}), ("tokens", 1, {"red", "colour", "blue"})])
def test_what_the_graph_says_reaches_the_latent_and_nothing_else_of_it(join: str, layers: int, reached: set[str], tmp_path: Path):
    """The text has "red", and no blue thing and no ring; a layer of the network tells what else is a colour."""
    graph = facts(tmp_path, "red\tis\tcolour\nring\tis\tshape\nblue\tis\tcolour\n", layers=layers)
    encoder, _ = knowing(graph, join=join)
    tokens = to_tokens(graph.tokenizer, [TEXTS[0], TEXTS[1]])
    z = encoder(tokens)
    gradient = torch.autograd.grad(z.pooled[0].square().sum(), graph.entities)[0].abs().sum(-1)
    assert {graph.graph.entities[n] for n in gradient.nonzero()[:, 0].tolist()} == reached
    assert z.tokens.shape == (2, tokens.ids.shape[1], 16) and torch.equal(z.mask, tokens.mask)


def test_a_text_about_nothing_in_the_graph_is_read_all_the_same(tmp_path: Path):
    graph = facts(tmp_path, "red\tis\tcolour\n")
    encoder, _ = knowing(graph)
    z = encoder(to_tokens(graph.tokenizer, ["a ring"]))
    assert bool(z.pooled.isfinite().all())
    grad = torch.autograd.grad(z.pooled.sum(), graph.entities)[0]
    assert not grad.any()


def test_neighbours_that_do_not_fit_are_named(tmp_path: Path):
    graph = facts(tmp_path, "red\tis\tcolour\n")
    with pytest.raises(ValueError, match=r"width = 8: expected 16, the width of model\.shared\.words"):
        knowing(graph, width=8)
    with pytest.raises(ValueError, match=r"ring is no table \[model\.shared\.ring\]"):
        knowing(graph, reads="ring")
    with pytest.raises(ValueError, match=r'reads.*a table \[model\.shared\.NAME\] with kind = "text_encoder"'):
        KnowledgeTextEncoderConfig(reads="text_encoder")


def test_weights_of_another_graph_are_refused(tmp_path: Path):
    weights = facts(tmp_path, "red\tis\tcolour\n").state_dict()
    facts(tmp_path, "red\tis\tcolour\n").load_state_dict(weights)
    with pytest.raises(UserError, match=r"facts\.tsv is not the graph that these weights were trained with"):
        facts(tmp_path, "blue\tis\tcolour\n").load_state_dict(weights)


def test_what_held_out_texts_are_about_and_no_training_text_is_is_a_leak(tmp_path: Path):
    graph = facts(tmp_path, "red\tgoes_with\tring\nred\tis\tcolour\nblue\tgoes_with\tring\nlarge\tis\tsize\nsquare\tlike\tring\n").graph
    named = [frozenset(graph.names[word] for word in text.split()) for text in ("red square", "blue ring", "square ring", "ring")]
    assert [graph.said(fact) for fact in leaked(graph, named, [frozenset({graph.names["red"], graph.names["ring"]})])] == [
        "red – goes with – ring"
    ]
    assert [graph.said(fact) for fact in leaked(graph, named, [frozenset({graph.names["large"]})])] == ["large – is – size"]
    assert leaked(graph, named, named) == []


def test_emoji_that_training_hides_are_leaks_unless_they_may_be_told():
    pytest.importorskip("resvg_py")
    from ibllm_emoji.config import EmojiStylesConfig
    from ibllm_emoji.styles.dataset import EmojiStylesDataset

    archives = Path(__file__).parents[1] / "emoji" / "archives"
    data = EmojiStylesDataset(EmojiStylesConfig(path=str(archives)), None)
    words = WordTokenizer(WordConfig(size=96, max_length=24), Context())
    words.train(data.corpus("train"))
    for held_out in ("refuse", "allow"):
        config = GraphConfig(path=str(archives / "emojibase-data-17.0.0.tgz"), held_out=held_out)
        found = KnowledgeGraph(config, Context(tokenizer=words)).audit(data.corpus("train"), {"concept": data.corpus("concept")})
        name = data.gallery.concepts[data.gallery.items["concept"][0][0]].names["en"]
        assert "split concept: " in (found.against or found.told[-1]) and f"{name} – group – " in (found.against or found.told[-1])
        assert bool(found.against) == (held_out == "refuse")
