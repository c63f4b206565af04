"""Sentences about scenes: one description a language, used to write captions and to parse them back into facts.

A template is a sentence for each number of objects with slots: ``{o1}`` is the first object's phrase, ``{p1}`` its place, ``{r12}`` how
the first lies to the second. Writing fills the slots; parsing turns the same template into a regular expression.

Facts are language-independent: an object ``(size, colour, shape, place)`` with cells, ``(size, colour, shape)`` with free placement, where a
relation is ``("left of" | "above", object, object)``: "right of" and "below" are the same facts said from the other side. Objects that are counted are
``(number, colour, shape)``, all of them one fact.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_shapes.scenes import CELLS, COLOURS, COUNTED_SIZE, NUMBERS, SHAPES, SIZES, Scenes

Object = tuple[str, ...]
Fact = tuple[str | Object, ...]
Facts = frozenset[Fact]

#: In the order of the numbers used below; each one's opposite is its neighbour.
RELATIONS = ("left of", "right of", "above", "below")


def _listed(item: str, between: str, last: str, before: str = "", after: str = "") -> tuple[str, ...]:
    """A template that lists one, two or three objects; `item` writes ``{o}`` and ``{p}``."""
    items = [item.replace("{o}", f"{{o{k}}}").replace("{p}", f"{{p{k}}}") for k in (1, 2, 3)]
    return tuple(before + text + after for text in (items[0], last.join(items[:2]), items[0] + between + last.join(items[1:])))


_SHAPES_ZH = ("圆形", "正方形", "三角形", "菱形", "十字形", "圆环", "方框", "心形", "长条形", "月牙形")


@attrs.frozen
class Language:
    """The words and templates of one language; words in the order of `scenes` and `RELATIONS`. Each first template is the canonical one.

    Attributes:
        many: the shapes' words where there are several of one.
        numbers: of objects, one to ten.
        counted: how a number of equal objects is said; slots ``{number}``, ``{colour}`` and ``{shape}``.
        count_templates: sentences about such objects, for one and for several.
    """

    phrase: str
    colours: Sequence[str]
    shapes: Sequence[str]
    sizes: Sequence[str]
    cells: Sequence[str]
    relations: Sequence[str]
    cell_templates: Sequence[Sequence[str]]
    free_templates: Sequence[Sequence[str]]
    many: Sequence[str]
    numbers: Sequence[str]
    counted: str
    count_templates: Sequence[Sequence[str]]


LANGUAGES: Mapping[str, Language] = {
    "en": Language(
        phrase="a {size} {colour} {shape}",
        colours=COLOURS,
        shapes=SHAPES,
        sizes=SIZES,
        cells=CELLS,
        relations=RELATIONS,
        cell_templates=(
            _listed("{o} at the {p}", ", ", " and "),
            _listed("at the {p} {o}", ", ", " and "),
            _listed("{o} at the {p}", ", ", " and ", before="there is "),
            _listed("{o} in the {p} corner", ", ", " and ", before="a picture of "),
            _listed("the {p} shows {o}", ", ", ", and "),
        ),
        free_templates=(
            ("{o1}", "{o1} {r12} {o2}", "{o1} {r12} {o2}, which is {r23} {o3}"),
            ("a picture of {o1}", "{o2} {r21} {o1}", "{o3} {r32} {o2}, which is {r21} {o1}"),
            ("there is {o1}", "there is {o1} {r12} {o2}", "there is {o2} that is {r21} {o1} and {r23} {o3}"),
        ),
        many=("circles", "squares", "triangles", "diamonds", "crosses", "rings", "frames", "hearts", "pillars", "crescents"),
        numbers=NUMBERS,
        counted="{number} {colour} {shape}",
        count_templates=(("{c}", "{c}"), ("there is {c}", "there are {c}"), ("a picture of {c}", "a picture of {c}")),
    ),
    "zh": Language(
        phrase="一个{colour}的{size}{shape}",
        colours=("红色", "绿色", "蓝色", "黄色", "紫色", "青色", "橙色", "白色", "粉色", "薄荷色"),
        shapes=_SHAPES_ZH,
        sizes=("大", "小"),
        cells=("左上角", "右上角", "左下角", "右下角"),
        relations=("左边", "右边", "上方", "下方"),
        cell_templates=(
            _listed("{p}有{o}", "，", "，"),
            _listed("{o}在{p}", "，", "，"),
            _listed("{p}是{o}", "，", "，", before="图中"),
            _listed("在{p}可以看到{o}", "，", "，还"),
        ),
        free_templates=(
            ("{o1}", "{o1}在{o2}的{r12}", "{o1}在{o2}的{r12}，后者在{o3}的{r23}"),
            ("图中有{o1}", "{o2}在{o1}的{r21}", "{o3}在{o2}的{r32}，后者在{o1}的{r21}"),
            ("有{o1}", "{o2}的{r12}有{o1}", "{o3}的{r23}有{o2}，后者的{r12}有{o1}"),
        ),
        many=_SHAPES_ZH,
        numbers=("一个", "两个", "三个", "四个", "五个", "六个", "七个", "八个", "九个", "十个"),
        counted="{number}{colour}的{shape}",
        count_templates=(("{c}", "{c}"), ("有{c}", "有{c}"), ("图中有{c}", "图中有{c}")),
    ),
}


def relation(x1: float, y1: float, x2: float, y2: float) -> int:
    """How the first centre lies to the second, a place in `RELATIONS`: along the axis on which they are further apart; y points down."""
    dx, dy = x1 - x2, y1 - y2
    return int(dx > 0) if abs(dx) >= abs(dy) else 2 + int(dy > 0)


def _relation_fact(name: str, first: Object, second: Object) -> Fact:
    kind = RELATIONS.index(name)
    return (name, first, second) if kind % 2 == 0 else (RELATIONS[kind - 1], second, first)


def _slots(template: str) -> list[str]:
    return re.findall(r"{(\w+)}", template)


class _Parser:
    """One template for one number of objects, as a regular expression."""

    def __init__(self, language: Language, template: str) -> None:
        self.slots = _slots(template)
        self.places = any(slot.startswith("p") for slot in self.slots)
        words = {"colour": language.colours, "shape": language.shapes, "size": language.sizes}
        self.names = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "p": CELLS, "r": RELATIONS}
        self.words = {**words, "p": language.cells, "r": language.relations}

        def group(name: str, kind: str) -> str:
            return f"(?P<{name}>" + "|".join(map(re.escape, self.words[kind])) + ")"

        def pattern(text: str, groups: Mapping[str, str]) -> str:
            return "".join(groups[part[1:-1]] if part.startswith("{") else re.escape(part) for part in re.split(r"({\w+})", text))

        groups = {slot: group(slot, slot[0]) for slot in self.slots if slot[0] != "o"}
        for slot in self.slots:
            if slot[0] == "o":
                groups[slot] = pattern(language.phrase, {kind: group(f"{slot}_{kind}", kind) for kind in words})
        self.pattern = re.compile(pattern(template, groups))

    def facts(self, caption: str) -> Facts | None:
        """The facts, None if the caption is another sentence or says what no scene can show."""
        match = self.pattern.fullmatch(caption)
        if match is None:
            return None
        found = match.groupdict()

        def name(group: str, kind: str) -> str:
            return self.names[kind][self.words[kind].index(found[group])]

        numbers = sorted(slot[1] for slot in self.slots if slot[0] == "o")
        objects: dict[str, Object] = {k: tuple(name(f"o{k}_{kind}", kind) for kind in ("size", "colour", "shape")) for k in numbers}
        if self.places:
            places = {k: name(f"p{k}", "p") for k in numbers}
            if len(set(places.values())) < len(numbers):
                return None
            return frozenset((*objects[k], places[k]) for k in numbers)
        if len(set(objects.values())) < len(numbers):
            return None
        relations = {_relation_fact(name(slot, "r"), objects[slot[1]], objects[slot[2]]) for slot in self.slots if slot[0] == "r"}
        return frozenset({*objects.values(), *relations})


class _CountParser:
    """One template about equal objects, for one of them or for several."""

    def __init__(self, language: Language, template: str, several: bool) -> None:
        shapes = language.many if several else language.shapes
        numbers = language.numbers[1:] if several else language.numbers[:1]
        names = NUMBERS[1:] if several else NUMBERS[:1]
        said = {"number": (numbers, names), "colour": (language.colours, COLOURS), "shape": (shapes, SHAPES)}
        self.names = {kind: dict(zip(words, meant, strict=True)) for kind, (words, meant) in said.items()}
        slots = {kind: f"(?P<{kind}>" + "|".join(map(re.escape, words)) + ")" for kind, (words, _) in said.items()}
        self.pattern = re.compile(template.format(c=language.counted.format_map(slots)))

    def facts(self, caption: str) -> Facts | None:
        """The fact, None if the caption is another sentence."""
        match = self.pattern.fullmatch(caption)
        return None if match is None else frozenset({tuple(self.names[kind][match[kind]] for kind in self.names)})


@functools.cache
def _parsers(placement: str, language: str) -> tuple[_Parser | _CountParser, ...]:
    described = LANGUAGES[language]
    if placement == "count":
        return tuple(_CountParser(described, text, bool(k)) for template in described.count_templates for k, text in enumerate(template))
    return tuple(_Parser(described, text) for template in _templates(described, placement) for text in template)


@functools.lru_cache(maxsize=65536)
def facts(caption: str, placement: str = "cells", language: str | None = None) -> Facts | None:
    """What a caption says, whichever template says it; None for anything that is not exactly a sentence of the grammar.

    Args:
        language: the only one to try; all of them if None.
    """
    for code in LANGUAGES if language is None else (language,):
        for parser in _parsers(placement, code):
            found = parser.facts(caption)
            if found is not None:
                return found
    return None


def objects_of(found: Facts | None) -> frozenset[Fact]:
    """The objects among some facts."""
    return frozenset(fact for fact in found or () if isinstance(fact[-1], str))


def scene_facts(scenes: Scenes, index: int, chosen: Sequence[bool] | npt.NDArray[np.bool_] | None = None) -> Facts:
    """What a caption of the scene number `index` of a batch says: every object and, with free placement, how neighbours in their order lie.

    Args:
        chosen: which of its objects count; all of them if None.
    """
    number = [k for k in range(int(scenes.count[index])) if chosen is None or chosen[k]]
    objects: dict[int, Object] = {
        k: (SIZES[scenes.size[index, k]], COLOURS[scenes.colour[index, k]], SHAPES[scenes.shape[index, k]]) for k in number
    }
    if scenes.placement == "cells":
        return frozenset((*objects[k], CELLS[scenes.cell[index, k]]) for k in number)
    if scenes.placement == "count":
        # A size that no caption names makes another fact.
        alike = Counter(objects.values())
        return frozenset((NUMBERS[n - 1], *kind[kind[0] == SIZES[COUNTED_SIZE] :]) for kind, n in alike.items())
    x, y = scenes.x[index], scenes.y[index]
    relations = (_relation_fact(RELATIONS[relation(x[j], y[j], x[k], y[k])], objects[j], objects[k]) for j, k in itertools.pairwise(number))
    return frozenset({*objects.values(), *relations})


def exact(scenes: Scenes, index: int, caption: str) -> bool:
    """Whether a caption states every fact of a scene and invents none."""
    return facts(caption, scenes.placement) == scene_facts(scenes, index)


@functools.cache
def phrases(language: str) -> tuple[str, ...]:
    """The phrase of every object, at number ``(size * colours + colour) * shapes + shape``."""
    words = LANGUAGES[language]
    return tuple(
        words.phrase.format(size=size, colour=colour, shape=shape)
        for size in words.sizes
        for colour in words.colours
        for shape in words.shapes
    )


def template_count(placement: str, language: str) -> int:
    """How many templates a language has."""
    return len(_templates(LANGUAGES[language], placement))


def _templates(words: Language, placement: str) -> Sequence[Sequence[str]]:
    return {"cells": words.cell_templates, "free": words.free_templates, "count": words.count_templates}[placement]


def write(scenes: Scenes, languages: Sequence[str], templates: Iterable[int]) -> list[str]:
    """b captions, each in its own language by its own template."""
    if scenes.placement == "count":
        return [
            _count_sentence(scenes, i, LANGUAGES[code], which) for i, (code, which) in enumerate(zip(languages, templates, strict=True))
        ]
    number = ((scenes.size * len(COLOURS) + scenes.colour) * len(SHAPES) + scenes.shape).tolist()
    counts, cells = scenes.count.tolist(), scenes.cell.tolist()
    x, y = scenes.x, scenes.y
    dx, dy = np.diff(np.nan_to_num(x), axis=1), np.diff(np.nan_to_num(y), axis=1)
    forward = np.where(np.abs(dx) >= np.abs(dy), dx < 0, 2 + (dy < 0)).astype(int).tolist()
    out = []
    for i, (code, which) in enumerate(zip(languages, templates, strict=True)):
        words, known, n = LANGUAGES[code], phrases(code), counts[i]
        slots = {f"o{k + 1}": known[number[i][k]] for k in range(n)}
        if scenes.placement == "cells":
            template = words.cell_templates[which][n - 1]
            slots.update({f"p{k + 1}": words.cells[cells[i][k]] for k in range(n)})
        else:
            template = words.free_templates[which][n - 1]
            for k in range(n - 1):
                slots[f"r{k + 1}{k + 2}"] = words.relations[forward[i][k]]
                slots[f"r{k + 2}{k + 1}"] = words.relations[forward[i][k] ^ 1]
        out.append(template.format_map(slots))
    return out


def _count_sentence(scenes: Scenes, index: int, words: Language, which: int) -> str:
    n, colour, shape = int(scenes.count[index]), int(scenes.colour[index, 0]), int(scenes.shape[index, 0])
    shapes = words.many if n > 1 else words.shapes
    counted = words.counted.format(number=words.numbers[n - 1], colour=words.colours[colour], shape=shapes[shape])
    return words.count_templates[which][n > 1].format(c=counted)
