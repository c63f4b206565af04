"""Graphs are read from files of several forms; what is wrong with a file is told with its line and column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ibllm_graph.config import GraphConfig
from ibllm_graph.triples import Graph
from ibllm_shapes.grammar import LANGUAGES, RELATIONS
from ibllm_shapes.scenes import CELLS, COLOURS, NUMBERS, SHAPES, SIZES

from ibllm.plugin import OptionError, UserError

ARCHIVE = Path(__file__).parents[1] / "emoji" / "archives" / "emojibase-data-17.0.0.tgz"
TURTLE = """@prefix : <http://x/pets#> . @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> . @prefix owl: <http://www.w3.org/2002/07/owl#> .
:GuideDog rdfs:subClassOf :Dog ; rdfs:label "guide dog"@en , "Blindenhund"@de ; :age 3 .
:Dog rdfs:subClassOf [ a owl:Restriction ] .
"""
NTRIPLES = r"""# pets
<http://x/Dog> <http://x/isA> <http://x/Pet> .
_:b1 <http://x/isA> <http://x/Dog> . # nameless
<http://x/Dog> <http://www.w3.org/2000/01/rdf-schema#label> "a \"d\u006fg\""@en .
<http://x/Dog> <http://x/age> "3"^^<http://x/int> .
"""
NOUNS = """  1 This software and database is being provided to you, the LICENSEE, by
00001740 03 n 01 entity 0 000 | that which is perceived
00002137 03 n 02 dog 0 domestic_dog 0 001 @ 00001740 n 0000 | a member of the genus Canis
00003000 03 n 01 dog 1 001 @ 00001740 n 0000 | a dull person
00004000 03 n 01 Fido 0 002 @i 00002137 n 0000 + 00005000 v 0101 | a dog
"""


def graph(path: Path, content: str | None = None, **options: Any) -> Graph:
    if content is not None:
        path.write_text(content, encoding="utf-8")
    return GraphConfig(path=str(path), **options).graph()


def said(graph: Graph) -> list[str]:
    return [graph.said(fact) for fact in graph.facts]


def test_facts_are_read_from_tabs(tmp_path: Path):
    found = graph(tmp_path / "a.tsv", "# pets\nguide_dog\tis\tdog\ndog\tis\tpet\n\ndog\tis\tpet\ndog\talias\thound\n")
    assert said(found) == ["guide dog – is – dog", "dog – is – pet"]
    assert {name: found.entities[entity] for name, entity in found.names.items()} == {
        "hound": "dog", "guide dog": "guide_dog", "dog": "dog", "pet": "pet",
    }  # fmt: skip


def test_a_transitive_relation_has_what_follows(tmp_path: Path):
    found = graph(tmp_path / "a.tsv", "a\tis\tb\nb\tis\tc\nc\tis\ta\nc\tis\td\na\tlike\tb\n", transitive=("is",))
    follows = {f"{x} – is – {y}" for x in "abc" for y in "abcd" if x != y}
    assert set(said(found)) == follows | {"a – like – b"}


def test_relations_can_be_chosen(tmp_path: Path):
    assert said(graph(tmp_path / "a.tsv", "a\tis\tb\na\tlike\tb\n", relations=("like",))) == ["a – like – b"]
    with pytest.raises(UserError, match=r"a\.tsv: relations names 'likes', of which the file has no fact; did you mean like\?"):
        graph(tmp_path / "a.tsv", relations=("likes",))


def test_a_name_of_several_things_is_a_word_that_may_mean_each(tmp_path: Path):
    found = graph(
        tmp_path / "a.tsv", "orange_fruit\tis\tfruit\norange_colour\tis\tcolour\norange_fruit\tname\torange\norange_colour\tname\torange\n"
    )
    assert said(found)[-2:] == ["orange (word) – may mean – orange fruit", "orange (word) – may mean – orange colour"]
    assert found.entities[found.names["orange"]] == "orange (word)"


def test_n_triples(tmp_path: Path):
    found = graph(tmp_path / "a.nt", NTRIPLES)
    assert said(found) == ["dog – is a – pet", "_:b1 – is a – dog"]
    assert dict(found.names) == {'a "dog"': 0, "pet": 1}
    assert found.notes == ["a.nt: 1 values that are no entities (numbers, texts) are left out of the graph"]


def test_turtle_is_read_by_rdflib(tmp_path: Path):
    pytest.importorskip("rdflib")
    found = graph(tmp_path / "a.ttl", TURTLE)
    assert said(found) == ["guide dog – sub class of – dog"]
    assert "Blindenhund" not in found.names and found.names["guide dog"] == 0
    assert "Blindenhund" in graph(tmp_path / "a.ttl", languages=("de",)).names


def test_n_triples_are_read_as_rdflib_reads_them(tmp_path: Path):
    pytest.importorskip("rdflib")
    (tmp_path / "a.nt").write_text(NTRIPLES.replace("_:b1", "<http://x/Rex>"), encoding="utf-8")
    one, other = graph(tmp_path / "a.nt"), graph(tmp_path / "b.ttl", (tmp_path / "a.nt").read_text(encoding="utf-8"))
    assert sorted(said(one)) == sorted(said(other)) and dict(one.names).keys() == dict(other.names).keys()


def test_wordnet_has_hypernyms_and_words_of_several_meanings(tmp_path: Path):
    found = graph(tmp_path / "data.noun", NOUNS, transitive=("hypernym",))
    dog, name = found.names["dog"], {entity: name for name, entity in found.names.items()}
    assert found.entities[dog] == "dog (word)" and name[found.names["domestic dog"]]
    kinds = {(found.entities[s], found.relations[r], found.entities[o]) for s, r, o in found.facts}
    assert ("n00004000", "instance hypernym", "n00002137") in kinds and ("dog (word)", "may mean", "n00003000") in kinds
    assert GraphConfig(path=str(tmp_path)).graph().facts  # the folder


def test_emoji_have_groups_tags_and_names_in_several_languages():
    found = graph(ARCHIVE, languages=("en", "de"))
    facts = said(found)
    assert "dog face – tag – pet" in facts and "dog face – group – group animals-nature" in facts
    assert any(fact.startswith("dog face – subgroup – subgroup animal-mammal") for fact in facts)
    assert found.entities[found.names["Hundegesicht"]] == "dog face"
    with pytest.raises(UserError, match=r"there is no xx/compact\.json"):
        graph(ARCHIVE, languages=("xx",))


def test_the_ontology_of_shapes_has_every_word_of_the_dataset():
    found = GraphConfig().graph()
    for words in (COLOURS, SHAPES, SIZES, CELLS, RELATIONS, NUMBERS):
        assert set(words) <= set(found.names)
    for language in LANGUAGES.values():
        assert {*language.colours, *language.shapes, *language.many, *language.sizes, *language.cells, *language.relations} <= set(
            found.names
        )
    # What `held_out` holds out is a pair of words of different kinds, of which nothing is said.
    kinds = [{found.names[word] for word in words} for words in (COLOURS, SHAPES, SIZES, CELLS, NUMBERS)]
    assert not any(s in one and o in other for s, _, o in found.facts for one in kinds for other in kinds if one is not other)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "a\tis\tb\na is b\n", r"a\.tsv:2: 1 column: expected subject, relation and object, parted by tabs"),
        ("a.tsv", "a\tis\t \n", r"a\.tsv:1: column 3 is empty"),
        ("a.tsv", "# nothing\n", r"a\.tsv: it holds no fact between two entities"),
        ("a.nt", "<http://x/a> <http://x/b> <http://x/c>\n", r"a\.nt:1:39: expected a full stop after the object"),
        ("a.nt", '\n<http://x/a> <http://x/b> "c .\n', r"a\.nt:2:27: this is no object: expected <IRI>, _:name or \"text\""),
        ("a.nt", "<http://x/a> _:b <http://x/c> .\n", r"a\.nt:1:14: this is no relation: expected <IRI>"),
        ("a.ttl", "a b c d", r"a\.ttl: rdflib cannot read it as turtle"),
        ("data.noun", "00001740 03 n 0z entity", r"data\.noun:1: this is no line of WordNet's form"),
        ("a.tgz", "no archive", r"a\.tgz cannot be read"),
        ("a.words", "a\tis\tb\n", r"a\.words: its ending does not say what it is: expected format = tsv, ntriples"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(name: str, content: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        graph(tmp_path / name, content)
    (mistake,) = GraphConfig(path=str(tmp_path / name)).check()
    assert isinstance(mistake, OptionError) and re.search(message, mistake.expected)


def test_a_file_that_is_no_text_is_told(tmp_path: Path):
    (tmp_path / "a.tsv").write_bytes(b"a\tis\tb\n\xff\n")
    with pytest.raises(UserError, match=r"a\.tsv:2: byte 0xff is not UTF-8"):
        graph(tmp_path / "a.tsv")
