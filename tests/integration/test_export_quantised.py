"""Smaller weights: what they do to the run's own figures is told, and the folder's program runs with them.

Needs ``pip install 'ibllm[export]'``.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from ibllm_cli.main import main

from tests.export.untrained import untrained

from .needs import needs


@pytest.mark.parametrize("form", ["int8", "bf16"])
def test_the_change_in_figures_is_told_and_weights_are_smaller(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ibllm_export.run_onnx import Exported

    for name in ("onnx", "onnxruntime", "onnxscript"):
        needs(name, importlib.util.find_spec(name) is not None)
    model = untrained(tmp_path, {"model": {"width": 64}})
    assert main(["export", str(model), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert not whole["figures"]["eager"]
    assert main(["export", str(model), "--quantize", form, "--items", "8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    folder = Path(report["folder"])
    assert folder == model / "export" / f"onnx-{form}"
    for graph in ("draw.onnx", "read.onnx", "step.onnx"):
        assert report["files"][graph] < whole["files"][graph] or graph == "read.onnx"
    figures = report["figures"]
    assert figures["eager"] and set(figures["eager"]) == set(figures["exported"]) == set(figures["change"])
    for name, change in figures["change"].items():
        assert change == pytest.approx(figures["exported"][name] - figures["eager"][name])
    assert 0 < report["greatest_difference"]["draw"] < 0.5
    assert json.loads((folder / "export.json").read_text())["quantised"] == form
    exported = Exported(folder)
    assert exported.generate(["a small red circle", "a big blue square"], 0).shape == (2, 32, 32, 3)
