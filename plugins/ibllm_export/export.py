"""A trained model → a folder of files that other programs run. Shapes: b batch, t tokens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import to_images, to_tokens
from ibllm_core.model.model import Model
from ibllm_core.runs.directory import read_json, replacing, write_json, write_text

from . import onnx_files, run_onnx, tokenizer_files
from .figures import changes, measured, real_items
from .graphs import Program, programs
from .handed import example
from .page import runtime, write_page
from .refusing import refused

#: Items that every export is checked on.
CHECKED = 8


@attrs.define
class Report:
    """What was written and how it compares.

    Attributes:
        files: name → bytes.
        differences: graph → its greatest difference from PyTorch on the checked inputs.
        texts: captions that are other than PyTorch's, and of how many.
        figures: of the model, and of what was exported; empty where they were not measured.
        notes: what the export cannot do, a sentence each.
    """

    folder: Path
    files: dict[str, int]
    differences: dict[str, float]
    texts: tuple[int, int] = (0, 0)
    figures: dict[str, float] = attrs.field(factory=dict)
    exported: dict[str, float] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "folder": str(self.folder),
            "files": self.files,
            "greatest_difference": self.differences,
            "captions_that_differ": {"differ": self.texts[0], "of": self.texts[1]},
            "notes": self.notes,
            "figures": {"eager": self.figures, "exported": self.exported, "change": changes(self.figures, self.exported)},
        }


def require_close(report: Report, suffix: str) -> None:
    """Raises `UserError` where something differs from PyTorch by more than `onnx_files.TOLERANCE`."""
    for name, found in report.differences.items():
        if not found <= onnx_files.TOLERANCE:
            raise UserError(
                f"{name}{suffix} differs from PyTorch by {found:.2g} on items of the data: expected at most {onnx_files.TOLERANCE}"
            )


def component_names(recipe: Any) -> dict[str, str]:
    """Part → what messages call it: ``model.image_decoder = flow (provided by ibllm 0.2.0)``."""
    return {name: f"model.{name} = {part.use} (provided by {part.distribution} {part.version})" for name, part in recipe.parts.items()}


def export_onnx(opened: Any, folder: Path, quantize: str, items: int, say: Callable[[str], None], page: Path | None = None) -> Report:
    """Graphs in ONNX, tokenizers as JSON and a program that runs them.

    Args:
        opened: the run or opened model.
        quantize: ``int8``, ``bf16`` or nothing.
        items: on which figures are measured where it is quantised.
        page: where onnxruntime-web is (`ibllm_export.page.runtime`), for a page that runs the graphs in a browser.

    Raises:
        UserError: a part cannot be exported, there is no runtime for the page, or a graph in float32 differs from PyTorch by more than `onnx_files.TOLERANCE`.
    """
    onnx_files.require()
    taken = None if page is None else runtime(page)
    model = opened.model
    say("tracing")
    names = component_names(opened.recipe)
    traced = programs(model, names)
    with replacing(folder) as partial:
        partial.mkdir()
        for program in traced:
            say(f"writing {program.name}.onnx")
            path = partial / f"{program.name}.onnx"
            with refused(model, names, program.parts, f"writing {path.name}"):
                onnx_files.write(program, path)
                if quantize:
                    {"int8": onnx_files.to_int8, "bf16": onnx_files.to_bf16}[quantize](path)
        about(opened, partial, traced, quantize)
        shutil.copyfile(run_onnx.__file__, partial / "run_onnx.py")
        say("comparing with PyTorch")
        with refused(model, names, [part for program in traced for part in program.parts], "running the graphs"):
            exported = run_onnx.Exported(partial)
        report = _checked(opened, exported, partial, traced, quantize)
        report.notes = _unread(partial)
        if quantize and items:
            say("measuring figures")
            _measure(opened, model, partial, items, report)
        if taken is not None:
            say("writing page.html")
            write_page(partial, taken, _caption(opened))
        report.folder, report.files = folder, {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
    return report


def is_of(folder: Path, opened: Any, quantize: str) -> bool:
    """Whether a folder holds an export of these very weights, quantised like that, and no page yet."""
    said = read_json(folder / "export.json") or {}
    return said.get("weights") == opened.key and (said.get("quantised") or "") == quantize and not (folder / "page.html").exists()


def add_page(opened: Any, folder: Path, page: Path) -> Report:
    """Writes page.html into an export that is there. Raises `UserError` as `export_onnx` does."""
    written = write_page(folder, runtime(page), _caption(opened))
    return Report(folder, {written.name: written.stat().st_size}, {})


def _caption(opened: Any) -> str:
    """A caption of the data, or none where they are not here."""
    samples = real_items(opened, 1)
    return str(samples.captions[0]) if samples is not None and samples.captions else ""


def about(opened: Any, folder: Path, traced: list[Program], quantize: str) -> None:
    """Writes export.json, which names inputs and outputs, the tokenizers, and what licences ask for."""
    recipe, by_name = opened.recipe, {program.name: program for program in traced}
    fit = opened.fit
    said: dict[str, Any] = {
        "format": 1,
        "name": recipe.name,
        "weights": opened.key,
        "image_shape": list(opened.model.image_shape),
        "quantised": quantize or None,
        "fit": {"how": fit.how, "background": list(fit.background)},
    }
    if draw := by_name.get("draw"):
        noise = [{"name": f"noise{n}", "kind": one.kind, "shape": list(one.shape)} for n, one in enumerate(draw.draws)]
        said["draw"] = {"graph": "draw.onnx", "noise": noise, "tokenizer": _tokenizer(opened, folder, "text_encoder")}
    if step := by_name.get("step"):
        said["write"] = {
            "read": "read.onnx",
            "step": "step.onnx",
            "state": list(step.inputs[1:]),
            "changed": [name.removeprefix("new_") for name in step.outputs[1:]],
            "max_length": opened.model.parts["text_decoder"].max_length,
            "tokenizer": _tokenizer(opened, folder, "text_decoder"),
        }
    write_json(folder / "export.json", said)
    if (source := opened.folder / "ATTRIBUTION.md").is_file():
        shutil.copyfile(source, folder / source.name)


def _tokenizer(opened: Any, folder: Path, part: str) -> str:
    """Writes a text part's tokenizer; the file's name."""
    name, recipe = tokenizer_files.of_part(opened.recipe, part), opened.recipe
    file = f"tokenizer-{name}.json"
    plain = tokenizer_files.plain(recipe.tokenizers[name], opened.model.tokenizers[part])
    write_text(folder / file, json.dumps(plain, ensure_ascii=False))
    return file


def _unread(folder: Path) -> list[str]:
    """Which of an export's tokenizers the program beside it has no code for."""
    kinds = {path.name: json.loads(path.read_text(encoding="utf-8"))["kind"] for path in sorted(folder.glob("tokenizer-*.json"))}
    return [
        f"{name}: run_onnx.py reads and writes ids only, not texts, of the tokenizer {kind!r}"
        for name, kind in kinds.items()
        if kind not in run_onnx.TOKENIZERS
    ]


def _checked(opened: Any, exported: run_onnx.Exported, folder: Path, traced: list[Program], quantize: str) -> Report:
    """The graphs against PyTorch, on items of the data."""
    report, model = Report(folder, {}, {}), opened.model
    sessions = {"draw": exported.draw, "read": exported.reader, "step": exported.step}
    samples = real_items(opened, CHECKED)
    with model.inference():
        for program in traced:
            with refused(model, component_names(opened.recipe), program.parts, f"running {program.name}.onnx"):
                cases = inputs_of(model, program, samples)
                found = max(onnx_files.difference(program, sessions[program.name], inputs) for inputs in cases)
            report.differences[program.name] = found
    if not quantize:
        require_close(report, ".onnx")
    if samples is not None and samples.images is not None and exported.reader is not None:
        ids = exported.write(to_images(samples.images).numpy())
        texts = model.tokenizers["text_decoder"].decode(ids)
        report.texts = sum(a != b for a, b in zip(texts, model.caption(samples.images, beams=1), strict=True)), len(texts)
    return report


def inputs_of(model: Model, program: Program, samples: Any) -> list[tuple[Tensor, ...]]:
    """Inputs of a program made of items of the data; those that it was traced with where there are none. All items at once, and the first alone."""
    inputs = program.example
    if samples is not None and program.name == "draw" and samples.captions is not None:
        tokens = to_tokens(model.tokenizers["text_encoder"], samples.captions)
        rows, t = tokens.ids.shape
        numbers = (draw.numbers(example(rows, str(n)), t) for n, draw in enumerate(program.draws))
        inputs = (tokens.ids, tokens.mask, *numbers)
    elif samples is not None and program.name != "draw" and samples.images is not None:
        images = to_images(samples.images)
        inputs = (images,)
        if program.name == "step":
            state = _state(model, images)
            inputs = (torch.ones(len(images), dtype=torch.long), *state)
    return [inputs, tuple(some[:1] for some in inputs)]


def _state(model: Model, images: Tensor) -> tuple[Tensor, ...]:
    from .graphs import Reading

    state: tuple[Tensor, ...] = Reading(model)(images)
    return state


def _measure(opened: Any, model: Model, folder: Path, items: int, report: Report) -> None:
    """The run's own figures, of the model and of the graphs."""
    from .substitute import Substitute

    split = opened.recipe.evaluation.splits[0]
    report.figures = measured(opened, model, split, items)
    report.exported = measured(opened, Substitute(model, run_onnx.Exported(folder)), split, items)
