"""What an attack found: as plain data, as tables, and in the run that was attacked."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.figures import Figure
from ibllm_core.runs.directory import read_json, replacing, write_json
from ibllm_report.results import wilson
from ibllm_report.under_attack import FILE, FOLDER

from .attacking import Attack, Attacked
from .measuring import Curve, Measured, figures_of
from .strengths import Strength

if TYPE_CHECKING:
    from rich.table import Table

Pixels = npt.NDArray[np.uint8]
#: Items that are shown with their perturbation.
EXAMPLES = 6


@attrs.frozen(kw_only=True, eq=False)
class Example:
    """An item under the strongest attack: what it was, what it became, what was read of each; pictures are (h w 3)."""

    item: int
    caption: str
    text: str
    before: Pixels
    after: Pixels
    change: Pixels | None
    read_before: str
    read_after: str
    magnified: float


@attrs.frozen(kw_only=True, eq=False)
class Result:
    """An attack on a run.

    Attributes:
        levels: labels of the strengths.
        figures: what is said of the figures, in their order.
        values: figure → a value for each strength; `transferred` the same of the second model, `transfer` its name.
        remarks: what a reader has to know besides.
    """

    run: str
    of: str
    use: str
    against: str
    split: str
    items: int
    seed: int
    options: Mapping[str, Any]
    levels: Sequence[str]
    figures: Sequence[Figure]
    values: Mapping[str, Sequence[float]]
    transfer: str
    transferred: Mapping[str, Sequence[float]]
    examples: Sequence[Example]
    remarks: Sequence[str]

    @classmethod
    def made(
        cls,
        attack: Attack,
        levels: Sequence[Strength],
        split: str,
        found: Measured,
        own: bool,
        agent: Path | None,
        run: Path,
        transfer: Path | None,
    ) -> Self:
        figures = figures_of(attack.opened.recipe, attack.of, own)
        use = attack.use if agent is None else f"agent {agent.name}"
        return cls(
            run=run.resolve().name,
            of=attack.of,
            use=use,
            against=attack.against,
            split=split,
            items=len(found.samples),
            seed=attack.seed,
            options=dict(attack.options),
            levels=[level.label for level in levels],
            figures=[figure for figure in figures if figure.name in found.curve.figures],
            values=found.curve.figures,
            transfer=transfer.resolve().name if transfer else "",
            transferred=found.transfer.figures if found.transfer else {},
            examples=examples(found, own),
            remarks=_remarks(attack, levels, found.curve, own),
        )

    def interval(self, figure: Figure, value: float) -> tuple[float, float] | None:
        """The 95 % interval (Wilson) of a share of the items; None of other figures."""
        return wilson(value, self.items) if figure.counted and 0 <= value <= 1 else None

    def plain(self) -> dict[str, Any]:
        """As JSON has it; pictures are files (`store`)."""
        about = {name: getattr(self, name) for name in ("run", "of", "use", "against", "split", "items", "seed", "transfer")}
        return {
            **about,
            "options": dict(self.options),
            "levels": list(self.levels),
            "figures": [self._figure(figure) for figure in self.figures],
            "examples": [_about(example, number) for number, example in enumerate(self.examples)],
            "remarks": list(self.remarks),
        }

    def _figure(self, figure: Figure) -> dict[str, Any]:
        values, others = self.values[figure.name], self.transferred.get(figure.name, ())
        known = {"values": list(values), "intervals": [self.interval(figure, value) for value in values]}
        if others:
            known |= {"transferred": list(others), "transferred_intervals": [self.interval(figure, value) for value in others]}
        return {**attrs.asdict(figure), **known}

    @property
    def key(self) -> tuple[str, str, str, str]:
        """A run keeps one result of each."""
        return (self.of, self.use, self.against, self.split)


def _about(example: Example, number: int) -> dict[str, Any]:
    words = {name: getattr(example, name) for name in ("item", "caption", "text", "read_before", "read_after", "magnified")}
    pictures = {name: None if getattr(example, name) is None else f"{number}-{name}.png" for name in ("before", "after", "change")}
    return words | pictures


def _remarks(attack: Attack, levels: Sequence[Strength], curve: Curve, own: bool) -> list[str]:
    found = []
    if own:
        found.append("a changed text says something of its own, so the data's figures, which know what the caption said, are left out")
    unknown = curve.figures.get("unknown_words")
    if unknown and max(unknown) > unknown[0]:
        found.append(
            f"{100 * max(unknown):.0f} % of the texts have a word that the tokenizer does not know once they are changed: it reads <unk>"
        )
    if len(levels) == 1:
        found.append("0 is no attack: no other strength was given")
    return found


def examples(found: Measured, own: bool) -> list[Example]:
    """The first items that are read otherwise (or not as what they say now) under the strongest attack; where none is, the first ones."""
    before, after, last = found.curve.readings[0], found.curve.readings[-1], found.attacked[-1]
    wanted = last.texts if own and last.texts is not None else before
    changed = [k for k, (a, b) in enumerate(zip(wanted, after, strict=True)) if a != b]
    rows = [*changed, *(k for k in range(len(before)) if k not in changed)][:EXAMPLES]
    return [_example(found, last, row, before[row], after[row]) for row in rows]


def _example(found: Measured, last: Attacked, row: int, before: str, after: str) -> Example:
    captions, images = found.samples.captions, found.samples.images
    clean = found.attacked[0]
    was, now = (clean.images, last.images) if last.images is not None else (clean.drawn, last.drawn)
    assert was is not None and now is not None
    change, by = (None, 1.0) if last.images is None or images is None else magnified(images[row], last.images[row])
    return Example(
        item=int(found.samples.indices[row]),
        caption=captions[row] if captions is not None else "",
        text=last.texts[row] if last.texts is not None else "",
        before=_coloured(was[row]),
        after=_coloured(now[row]),
        change=change,
        read_before=before,
        read_after=after,
        magnified=by,
    )


def magnified(before: Pixels, after: Pixels) -> tuple[Pixels, float]:
    """(h w c) two images → their difference on grey, so large that its largest number fills half of the range, and by how much it was magnified."""
    change = after.astype(np.float64) - before
    by = 127.0 / max(float(np.abs(change).max()), 1.0)
    return _coloured(np.rint(128 + by * change).clip(0, 255).astype(np.uint8)), round(by, 1)


def _coloured(image: Any) -> Pixels:
    found: Pixels = image if image.shape[-1] == 3 else image[..., :1].repeat(3, -1)
    return found


def store(run: Path, result: Result) -> dict[str, Path]:
    """Keeps a result in a run directory, in the place of an earlier one of the same attack, and renders the report; says what was written.

    Into a model folder nothing is.
    """
    if not (run / "run.json").is_file():
        return {}
    from PIL import Image

    from ibllm_report.page import render

    known = [entry for entry in (read_json(run / FILE) or {}).get("attacks", ()) if isinstance(entry, Mapping)]
    others = [entry for entry in known if tuple(entry.get(name) for name in ("of", "use", "against", "split")) != result.key]
    entry = result.plain()
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    stem = "-".join(word.replace(" ", "-").replace("/", "-") for word in result.key)
    for number, example in enumerate(result.examples):
        for name in ("before", "after", "change"):
            pixels, about = getattr(example, name), entry["examples"][number]
            if pixels is not None:
                about[name] = f"{stem}-{about[name]}"
                out = io.BytesIO()
                Image.fromarray(pixels).save(out, "PNG")
                with replacing(folder / about[name]) as partial:
                    partial.write_bytes(out.getvalue())
    write_json(run / FILE, {"format": 1, "attacks": [*others, entry]})
    return {"attack": run / FILE, "report": render(run)}


def tables(result: Result) -> list[Table]:
    """The figures by strength, for a terminal; a second table of the second model."""
    found = [
        _table(result, result.values, f"{result.run} under {result.use}, {_LEVELS[result.of]}, split {result.split}, {result.items} items")
    ]
    if result.transferred:
        found.append(_table(result, result.transferred, f"{result.transfer}, shown what was perturbed for {result.run}"))
    return found


_LEVELS = {"image": "ε of images", "embedding": "ε of embeddings", "text": "changes of texts"}


def _table(result: Result, values: Mapping[str, Sequence[float]], title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    table.add_column("figure")
    for level in result.levels:
        table.add_column(Text(level), justify="right")
    for figure in result.figures:
        cells = []
        for value in values.get(figure.name, ()):
            interval = result.interval(figure, value)
            around = f"\n{100 * interval[0]:.1f}–{100 * interval[1]:.1f}" if interval else ""
            cells.append(Text(f"{figure.shown(value)}{around}"))
        table.add_row(Text(figure.full_label), *cells)
    return table
