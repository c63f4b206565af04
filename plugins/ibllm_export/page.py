"""An export as one page that draws and reads in a browser, by onnxruntime-web, without a network. Torch-free."""

from __future__ import annotations

import base64
import json
import tarfile
from importlib.metadata import version
from pathlib import Path

from ibllm_core.errors import UserError

#: How a user gets the runtime, which is not in our wheel.
FETCH = "npm pack onnxruntime-web"
#: What is taken of the package: its JavaScript in one module, and its WebAssembly.
RUNTIME, WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
#: Bytes of graphs that a page holds at most: browsers refuse texts of more than half a gigabyte, and base 64 takes a third more.
LARGEST = 256 * 2**20


def runtime(place: Path) -> dict[str, bytes]:
    """The files of onnxruntime-web, from its package's folder or from the archive that npm wrote: ``package.json``, `RUNTIME` and `WASM`.

    Raises:
        UserError: there is no such package at that place.
    """
    wanted = ("package.json", RUNTIME, WASM)
    if place.is_dir():
        inner = place / "package" if (place / "package").is_dir() else place
        found = {name: (inner / name).read_bytes() for name in wanted if (inner / name).is_file()}
    elif place.is_file():
        try:
            with tarfile.open(place) as archive:
                members = {one.name.partition("/")[2]: one for one in archive if one.isfile()}
                files = {name: archive.extractfile(members[name]) for name in wanted if name in members}
                found = {name: file.read() for name, file in files.items() if file is not None}
        except (tarfile.TarError, EOFError, OSError):
            raise UserError(f"--page {place}: cannot be read as an archive; expected what {FETCH} writes") from None
    else:
        raise UserError(f"--page {place}: there is no such file or folder; {FETCH} writes one")
    if missing := [name for name in wanted if name not in found]:
        raise UserError(f"--page {place}: it has no {', '.join(missing)}; expected the package that {FETCH} writes")
    return found


def package_version(files: dict[str, bytes]) -> str:
    """The version that a package's ``package.json`` names."""
    return str(json.loads(files["package.json"]).get("version", "of an unknown version"))


def write_page(folder: Path, taken: dict[str, bytes], example: str) -> Path:
    """Writes ``page.html`` beside the graphs of an export: one file that holds everything and opens from the disk.

    Args:
        folder: what `ibllm_export.export.export_onnx` writes.
        taken: of `runtime`.
        example: a caption to begin with.

    Raises:
        UserError: the graphs are too large for a page, or keep weights in files of their own.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".onnx", ".json"))
    size = sum((folder / name).stat().st_size for name in names)
    if size > LARGEST or any(folder.glob("*.data")):
        raise UserError(
            f"--page: the graphs have {size / 2**20:,.0f} MB, a page holds {LARGEST / 2**20:.0f} MB; --quantize makes them smaller"
        )
    here = Path(__file__).parent / "page"
    about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    attribution = folder / "ATTRIBUTION.md"
    environment = Environment(loader=PackageLoader("ibllm_export", "page"), autoescape=True, undefined=StrictUndefined)
    scripts = {name.replace(".", "_"): Markup((here / name).read_text(encoding="utf-8")) for name in ("model.js", "worker.js", "page.js")}
    text = environment.get_template("page.html.j2").render(
        name=about["name"],
        css=Markup((here / "page.css").read_text(encoding="utf-8")),
        example=example,
        version=version("ibllm"),
        runtime_version=package_version(taken),
        attribution=attribution.read_text(encoding="utf-8") if attribution.is_file() else "",
        files=[(name, _base64((folder / name).read_bytes())) for name in names],
        runtime=_base64(taken[RUNTIME]),
        wasm=_base64(taken[WASM]),
        **scripts,
    )
    page = folder / "page.html"
    page.write_text(text, encoding="utf-8")
    return page


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
