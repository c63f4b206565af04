"""``ibllm export``: a trained model as files that other programs run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ibllm_core.errors import UserError
from ibllm_use.common import examples, json_option, overwrite_option, require_new_folder, run_argument, using

EXAMPLES = examples(
    "ibllm export runs/joint",
    "ibllm export runs/joint --quantize int8 -o joint-int8",
    "ibllm export runs/joint --format torch-export",
    "ibllm export runs/joint --page onnxruntime-web-1.30.0.tgz",
)
FORMATS = ("safetensors", "torch-export", "onnx")


@click.command(name="export", epilog=EXAMPLES)
@run_argument
@click.option("--format", "format_", type=click.Choice(FORMATS), default="onnx", show_default=True, help="What to write.")
@click.option("--quantize", type=click.Choice(("int8", "bf16")), help="Make weights smaller.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder to write; by default RUN/export/FORMAT.")
@click.option(
    "--items",
    type=click.IntRange(min=0),
    default=128,
    show_default=True,
    help="With --quantize: items that the change in figures is measured on; 0 for none.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    metavar="PACKAGE",
    help="With onnx: also write page.html, which draws and reads in a browser, if need be into an export of the same weights that is there; "
    "PACKAGE is what `npm pack onnxruntime-web` wrote.",
)
@json_option
@overwrite_option
def command(
    run: Path, format_: str, quantize: str | None, output: Path | None, items: int, page: Path | None, as_json: bool, overwrite: bool
) -> None:
    """Write the trained model of RUN in a format that other programs read.

    onnx is a folder with graphs, tokenizers as JSON and run_onnx.py, which draws and captions with numpy, onnxruntime and Pillow alone. Each graph is
    compared with PyTorch on items of the data; more than 1e-3 apart is an error. torch-export are programs of torch.export (.pt2), safetensors the weights in
    the layout of Hugging Face's hub.
    """
    import json

    if page is not None and format_ != "onnx":
        raise UserError(f"--page with --format {format_}: expected onnx, whose graphs the page runs")
    folder = output or run / "export" / (f"{format_}-{quantize}" if quantize else format_)
    mark = "config.json" if format_ == "safetensors" else "export.json"
    there = page is not None and not overwrite and (folder / mark).is_file()
    if not there:
        require_new_folder(folder, overwrite, mark)
    with using(run, "cpu") as opened, _progress() as say:
        from .export import add_page, export_onnx, is_of
        from .other_formats import export_programs, export_weights

        folder.parent.mkdir(parents=True, exist_ok=True)
        if page is not None and there:
            if not is_of(folder, opened, quantize or ""):
                require_new_folder(folder, overwrite, mark)
            say("writing page.html")
            report = add_page(opened, folder, page)
        elif format_ == "onnx":
            report = export_onnx(opened, folder, quantize or "", items, say, page)
        elif format_ == "torch-export":
            report = export_programs(opened, folder, quantize or "", say)
        else:
            report = export_weights(opened, folder, quantize or "", say)
    if as_json:
        click.echo(json.dumps(report.plain(), indent=2, ensure_ascii=False))
    else:
        _tell(report)


def _tell(report: Any) -> None:
    for name, size in report.files.items():
        click.echo(f"{report.folder / name}  {size / 1e6:.2f} MB")
    for name, found in report.differences.items():
        click.echo(f"{name}: at most {found:.1e} from PyTorch")
    differ, of = report.texts
    if of:
        click.echo(f"captions: {of - differ} of {of} as PyTorch's")
    for name, value in report.figures.items():
        click.echo(f"{name}: {value:.4g} → {report.exported[name]:.4g}")
    for note in report.notes:
        click.echo(f"note: {note}")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    from rich.console import Console

    with Console(stderr=True).status("opening") as status:
        yield lambda text: status.update(text)
