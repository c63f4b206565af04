"""What is there already is not written over, and a folder of the user's is never taken away."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from ibllm_cli.main import main
from ibllm_export.bench_tables import as_rich
from rich.console import Console


@pytest.mark.parametrize("format_", ["onnx", "torch-export", "safetensors"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_something_else_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format_: str, overwrite: bool
) -> None:
    (tmp_path / "photo.txt").write_text("mine", encoding="utf-8")
    flags = ["--overwrite"] if overwrite else []
    assert main(["export", str(tmp_path / "run"), "--format", format_, "-o", str(tmp_path), *flags]) == 2
    assert "is left as it is" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.txt"]


def test_an_export_is_written_over_only_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "export.json").write_text("{}", encoding="utf-8")
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_comparison_is_not_written_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.md").write_text("mine", encoding="utf-8")
    assert main(["bench", str(tmp_path / "run"), "--markdown", str(tmp_path / "mine.md")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "mine.md").read_text(encoding="utf-8") == "mine"


def test_a_comparison_fits_a_terminal_of_eighty_columns() -> None:
    times = {"p50": 0.5852, "p99": 0.9682, "a_second": 1692.3, "a_second_batched": 2362.1}
    arm = {
        "name": "onnx-int8",
        "draw": times,
        "caption": times,
        "memory": 187e6,
        "size": 4.5e6,
        "figures": {"x": 1.0},
        "change": {"x": 0.0},
    }
    result = {"arms": [arm | {"notes": []}], "processor": "a processor", "threads": 1, "rounds": 3, "calls": 10, "batch": 32, "items": 0}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(as_rich(result))
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert {"drawing", "caption", "batches", "second", "memory", "figures", "onnx-int8", "1692"} <= set(text.split())
