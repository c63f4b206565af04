"""The formats beside ONNX: programs of `torch.export`, and weights in the layout of Hugging Face's hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ibllm_core.errors import UserError
from ibllm_core.runs.directory import replacing

from .export import CHECKED, Report, about, component_names, inputs_of, require_close
from .figures import real_items
from .graphs import programs
from .onnx_files import apart
from .refusing import refused


def export_programs(opened: Any, folder: Path, quantize: str, say: Callable[[str], None]) -> Report:
    """Programs of `torch.export` (``torch.export.load(path).module()`` runs one), read again and compared with the model, and tokenizers as JSON.

    Raises:
        UserError: a part cannot be traced, or `quantize` is given.
    """
    if quantize:
        raise UserError(
            f"--format torch-export --quantize {quantize}: a program keeps the types that it was traced with, float32; expected --format onnx"
            + (", or --format safetensors" if quantize == "bf16" else "")
        )
    model, samples, report = opened.model, real_items(opened, CHECKED), Report(folder, {}, {})
    say("tracing")
    names = component_names(opened.recipe)
    traced = programs(model, names)
    with replacing(folder) as partial:
        partial.mkdir()
        for program in traced:
            path = partial / f"{program.name}.pt2"
            say(f"writing {path.name}")
            with refused(model, names, program.parts, f"writing {path.name}"):
                torch.export.save(program.program, path)
                again = torch.export.load(path).module()
            with model.inference(), refused(model, names, program.parts, f"running {path.name}"):
                report.differences[program.name] = max(
                    _difference(program.module, again, one) for one in inputs_of(model, program, samples)
                )
        require_close(report, ".pt2")
        about(opened, partial, traced, "")
        report.files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
    return report


def _difference(module: nn.Module, again: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The greatest difference between what two modules give for the same inputs, over all outputs."""
    pairs = zip(*(given if isinstance(given, tuple) else (given,) for given in (module(*inputs), again(*inputs))), strict=True)
    return max(apart(a.numpy(), b.numpy()) for a, b in pairs)


def export_weights(opened: Any, folder: Path, quantize: str, say: Callable[[str], None]) -> Report:
    """The weights in the layout of Hugging Face's hub, with ``bf16`` of half the size: they are computed with as the recipe says when they are opened.

    Raises:
        UserError: `quantize` is int8.
    """
    from safetensors.torch import load_file, save_file

    if quantize == "int8":
        raise UserError("--format safetensors --quantize int8: nothing reads such weights; expected --format onnx, or --quantize bf16")
    say("writing")
    opened.save_pretrained(folder)
    if quantize:
        for path in folder.glob("*.safetensors"):
            weights = load_file(path)
            save_file({name: one.bfloat16() if one.is_floating_point() else one for name, one in weights.items()}, path, {"format": "pt"})
    return Report(folder, {path.name: path.stat().st_size for path in sorted(folder.iterdir())}, {})
