"""The model card: what a model does, on what it was trained, how well and where its limits are, from its own record. Torch-free."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from .figures import IMAGE_TO_TEXT, TEXT_TO_IMAGE
from .glossary import Glossary, meanings

__all__ = ["Facts", "card"]

#: What a model does → the parts that it takes.
DOES: Mapping[str, tuple[str, str]] = {
    "text-to-image": ("text_encoder", "image_decoder"),
    "image-to-text": ("image_encoder", "text_decoder"),
}
#: A vocabulary of at most so many words is written out.
WORDS = 120


@attrs.frozen(kw_only=True)
class Facts:
    """What a card is written from.

    Attributes:
        name: of the recipe, or of the repository.
        recipe: its resolved TOML.
        parts: part → ``kind.component`` and how many numbers it has.
        image_shape: (c, h, w).
        fit: how other images become such.
        languages: codes, as the data's captions have them.
        licence: an SPDX identifier in lower case; empty where it is not known.
        attribution: the credit that the data ask for.
        longest: tokens of the longest text that is read.
        words: the vocabulary, where it is of words.
        asks: the model was trained to answer questions.
        results: split/figure → value.
        meanings: what these mean (`ibllm.glossary.meanings`).
        record: run.json, or what there is of it.
        bench: bench.json, where ``ibllm bench`` wrote one.
    """

    name: str
    recipe: str
    data: str
    parts: Mapping[str, tuple[str, int]]
    image_shape: tuple[int, int, int]
    fit: str
    languages: Sequence[str] = ()
    licence: str = ""
    attribution: str = ""
    longest: int = 0
    words: Sequence[str] = ()
    asks: bool = False
    results: Mapping[str, float] = attrs.field(factory=dict)
    meanings: Mapping[str, Any] = attrs.field(factory=dict)
    record: Mapping[str, Any] = attrs.field(factory=dict)
    bench: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def tasks(self) -> list[str]:
        """Hugging Face's words for what it does."""
        found = [task for task, parts in DOES.items() if set(parts) <= set(self.parts)]
        return [*found, *(["visual-question-answering"] if self.asks else [])]


def card(facts: Facts) -> str:
    """README.md: a YAML header as Hugging Face reads it, and the card in Markdown."""
    glossary = Glossary.read(facts.meanings) if facts.meanings else Glossary()
    sections = [
        _opening(facts),
        _use(facts),
        _training(facts),
        _figures(facts, glossary),
        _limits(facts, glossary),
        _bench(facts),
        _recipe(facts),
    ]
    header = "\n".join(["---", *_header(facts, glossary), "---"])
    return "\n\n".join([header, *filter(None, sections)]) + "\n"


def _header(facts: Facts, glossary: Glossary) -> list[str]:
    """Lines of YAML; strings are written as JSON, which YAML reads."""
    lines = ["library_name: ibllm"]
    lines += [f"license: {json.dumps(facts.licence)}"] if facts.licence else []
    lines += ["language:", *(f"- {json.dumps(code)}" for code in facts.languages)] if facts.languages else []
    if tasks := facts.tasks:
        lines += [f"pipeline_tag: {tasks[0]}", "tags:", "- ibllm", *(f"- {task}" for task in tasks)]
    measured = _by_split(facts.results) if facts.tasks else {}
    if measured:
        lines += ["model-index:", f"- name: {json.dumps(facts.name)}", "  results:"]
    for split, figures in measured.items():
        for task in facts.tasks:
            about = {name: value for name, value in figures.items() if _task(facts, glossary, name) == task and math.isfinite(value)}
            if not about:
                continue
            lines += ["  - task:", f"      type: {task}", "    dataset:", f"      name: {json.dumps(facts.data)}"]
            lines += [f"      type: {json.dumps(facts.data)}", f"      split: {json.dumps(split)}", "    metrics:"]
            for name, value in about.items():
                label = glossary.figure(name).label
                lines += [f"    - type: {json.dumps(name)}", f"      name: {json.dumps(label)}", f"      value: {json.dumps(value)}"]
    return lines


def _task(facts: Facts, glossary: Glossary, name: str) -> str:
    """What a figure is about, in Hugging Face's words: the first task where it is about all of them."""
    words = {TEXT_TO_IMAGE: "text-to-image", IMAGE_TO_TEXT: "image-to-text"}
    task = words.get(glossary.figure(name).direction, "")
    return task if task in facts.tasks else facts.tasks[0]


def _by_split(results: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """split → figure → value, without counts of items."""
    found: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        split, _, name = key.partition("/")
        if name and name != "items":
            found.setdefault(split, {})[name] = value
    return found


def _opening(facts: Facts) -> str:
    does = {
        "text-to-image": "draws what a text says",
        "image-to-text": "says what an image shows",
        "visual-question-answering": "asks and answers questions about an image",
    }
    said = [does[task] for task in facts.tasks]
    c, h, w = facts.image_shape
    what = f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0] if said else "has parts of a text and image model"
    return f"# {facts.name}\n\nA model that {what}: images of {w} × {h} pixels with {c} channels. It was trained with [ibllm](https://pypi.org/project/ibllm/)."


def _use(facts: Facts) -> str:
    lines = ["## Use", "", "```python", "import ibllm", "", f"m = ibllm.from_pretrained({facts.name!r})  # or the path of this folder"]
    example = next(iter(facts.record.get("example", ())), "")
    if "text-to-image" in facts.tasks:
        lines += [f"m.generate({example!r}).save('drawn.png')"]
    if "image-to-text" in facts.tasks:
        lines += ["m.caption('drawn.png')"]
    needs = sorted(
        {f"{row['distribution']}=={row['version']}" for row in facts.record.get("provenance", {}).values() if "distribution" in row}
    )
    return "\n".join([*lines, "```", *(["", f"It needs {', '.join(f'`{need}`' for need in needs)}."] if needs else [])])


def _training(facts: Facts) -> str:
    lines = ["## Data and training", "", f"- data: `{facts.data}`" + (f", in {', '.join(facts.languages)}" if facts.languages else "")]
    lines += [f"- {facts.attribution}"] if facts.attribution else []
    lines += [f"- {part}: `{component}`, {count:,} parameters" for part, (component, count) in facts.parts.items()]
    for place, row in facts.record.get("provenance", {}).items():
        if row.get("sha256"):
            licence = f"licence {row['licence']}" if row.get("licence") else "its licence is not known"
            lines.append(
                f"- `{place}` began as the pretrained model `{Path(row.get('model', '')).name}`: {licence}, sha256 of its weights `{row['sha256']}`"
            )
    for stage in facts.record.get("stages", ()):
        lines.append(f"- stage `{stage['name']}`: {stage['done']} steps in {stage['seconds']:.0f} s")
    hardware = facts.record.get("hardware", {})
    lines += [f"- trained on {hardware['device']} ({hardware.get('cpu', '')})"] if "device" in hardware else []
    versions = facts.record.get("versions", {})
    lines += [f"- with {', '.join(f'{name} {number}' for name, number in versions.items())}"] if versions else []
    return "\n".join(lines)


def _figures(facts: Facts, glossary: Glossary) -> str:
    table = _by_split(facts.results)
    if not table:
        return ""
    names = sorted(dict.fromkeys(name for figures in table.values() for name in figures), key=glossary.rank)
    counts = [facts.results.get(f"{split}/items") for split in table]
    heads = [split if count is None else f"{split} ({count:.0f} items)" for split, count in zip(table, counts, strict=True)]
    lines = ["## Figures", "", "| figure | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for name in names:
        figure = glossary.figure(name)
        cells = [figure.shown(figures[name]) if name in figures else "–" for figures in table.values()]
        lines.append(f"| {figure.full_label} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- `{split}`: {glossary.splits[split]}" for split in table if split in glossary.splits)]
    said = [(glossary.figure(name), name) for name in names]
    lines += [
        f"- {figure.label}: {figure.meaning}{f' Caution: {figure.caution}.' if figure.caution else ''}"
        for figure, name in said
        if figure.meaning
    ]
    return "\n".join(lines)


def _limits(facts: Facts, glossary: Glossary) -> str:
    _, h, w = facts.image_shape
    lines = ["## Limits", "", f"- It draws and reads images of {w} × {h} pixels; others are resized: {facts.fit}."]
    lines += [f"- It reads texts of at most {facts.longest} tokens; what follows is cut, which is told."] if facts.longest else []
    if facts.words:
        shown = f": {' '.join(facts.words)}" if len(facts.words) <= WORDS else ""
        lines.append(f"- It knows {len(facts.words)} words and marks, and nothing of any other{shown}.")
    table = _by_split(facts.results)
    for split, figures in table.items():
        shares = {
            name: value for name, value in figures.items() if glossary.figure(name).percent and glossary.figure(name).better == "higher"
        }
        low = [f"{glossary.figure(name).label} {100 * value:.1f} %" for name, value in shares.items() if value < 0.5]
        if low:
            lines.append(f"- On {glossary.splits.get(split, split)} (`{split}`) it fails more often than not: {', '.join(low)}.")
    lines += [] if table else ["- Nobody has measured it: there are no results."]
    return "\n".join(lines)


def _bench(facts: Facts) -> str:
    return f"## Speed and size\n\n{str(facts.bench['markdown']).strip()}" if "markdown" in facts.bench else ""


def _recipe(facts: Facts) -> str:
    return f"## Recipe\n\n```toml\n{facts.recipe.strip()}\n```"


def meanings_of(recipe: Any, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the figures mean, as the record keeps it, else as the recipe's metrics say."""
    keys = ("figures", "splits", "marks", "primary_split")
    return {key: record[key] for key in keys} if all(key in record for key in keys) else meanings(recipe)
