"""What `ibllm export --page` takes and refuses; `tests/integration/test_export_page.py` opens its page in a browser."""

from __future__ import annotations

import base64
import json
import re
import tarfile
from pathlib import Path

import pytest
from ibllm_cli.main import main
from ibllm_export.page import RUNTIME, WASM, runtime, write_page

import ibllm
from ibllm_core.errors import UserError

from .untrained import untrained


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    for name, content in (("package.json", b'{"version": "1.2.3"}'), (RUNTIME, b"export default 1;"), (WASM, b"\0asm")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "draw.onnx").write_bytes(bytes(range(256)))
    (folder / "export.json").write_text(json.dumps({"name": "a </script> & b"}))
    return folder


def test_an_archive_its_folder_and_the_folder_above_give_the_same(package: Path) -> None:
    archive = package.parent / "onnxruntime-web-1.2.3.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(package, "package")
    assert runtime(archive) == runtime(package) == runtime(package.parent)


def test_what_is_no_such_package_is_refused_with_how_to_get_one(package: Path, tmp_path: Path) -> None:
    (package / WASM).unlink()
    (tmp_path / "text.tgz").write_text("no archive")
    for place, expected in (
        (package, f"it has no {WASM}"),
        (tmp_path / "none", "there is no such"),
        (tmp_path / "text.tgz", "cannot be read"),
    ):
        with pytest.raises(UserError, match=f"{re.escape(expected)}.*npm pack onnxruntime-web"):
            runtime(place)


def test_the_page_holds_every_file_and_names_the_runtime(package: Path, export: Path) -> None:
    page = write_page(export, runtime(package), 'a "small" <circle>').read_text()
    held = dict(re.findall(r'data-file="([^"]+)">([^<]*)</script>', page))
    assert {name: base64.b64decode(text) for name, text in held.items()} == {
        name: (export / name).read_bytes() for name in ("draw.onnx", "export.json")
    }
    assert "onnxruntime-web 1.2.3" in page and "&lt;circle&gt;" in page and "<h1>a &lt;/script&gt; &amp; b</h1>" in page
    assert not re.search(r"(src|href)=.?http", page)


def test_graphs_that_no_page_holds_are_refused(package: Path, export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibllm_export.page.LARGEST", 100)
    with pytest.raises(UserError, match="--quantize makes them smaller"):
        write_page(export, runtime(package), "")


def test_a_page_is_added_to_an_export_of_the_same_weights_and_to_no_other(
    package: Path, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = untrained(tmp_path, {"model": {}})
    command = ["export", str(model), "-o", str(export), "--page", str(package)]
    about = {"name": "tiny", "weights": ibllm.open(model).key, "quantised": None}
    graph = (export / "draw.onnx").read_bytes()
    for other in ({"weights": "of another"}, {"quantised": "int8"}, {"weights": None}):
        (export / "export.json").write_text(json.dumps(about | other))
        assert main(command) == 2
        assert "is there already; choose another place, or write over it with --overwrite" in capsys.readouterr().err
    (export / "export.json").write_text(json.dumps(about))
    assert main(command) == 0
    assert (export / "draw.onnx").read_bytes() == graph, "nothing is exported again"
    assert "<h1>tiny</h1>" in (export / "page.html").read_text()
    assert capsys.readouterr().out.startswith(str(export / "page.html"))
    assert main(command) == 2, "a page is never written over"
