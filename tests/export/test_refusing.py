"""What torch's exporter cannot do is refused by name, in one line, whatever part it is in and whatever the exporter was doing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ibllm_cli.main import main
from ibllm_export.export import component_names
from ibllm_export.onnx_files import apart
from ibllm_export.refusing import reason, refused
from ibllm_gan.cross_attention import CrossAttentionGenerator
from torch import Tensor

import ibllm
from ibllm_core.errors import UserError

from .untrained import untrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("model"), {"model": {}})


def test_a_sampler_that_looks_at_its_numbers_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = CrossAttentionGenerator.sample

    def branches(self: CrossAttentionGenerator, z: object, rng: object) -> Tensor:
        drawn: Tensor = sample(self, z, rng)  # type: ignore[arg-type]
        return drawn if drawn.sum() > 0 else -drawn

    monkeypatch.setattr(CrossAttentionGenerator, "sample", branches)
    code = main(["export", str(folder), "--format", "torch-export", "-o", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert code == 2
    assert f"model.image_decoder = cross_attention (provided by ibllm {ibllm.__version__})" in said
    assert "cannot be exported: " in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_the_part_that_failed_is_named_and_no_other(folder: Path) -> None:
    opened = ibllm.open(folder, device="cpu")
    names, parts = component_names(opened.recipe), ("text_encoder", "image_decoder")
    with pytest.raises(UserError) as own, refused(opened.model, names, parts, "writing draw.onnx"):
        opened.model.parts["text_encoder"].encode(None, None)
    assert str(own.value).startswith("model.text_encoder = transformer (provided by ibllm ")
    assert " cannot be exported (writing draw.onnx): " in str(own.value) and "image_decoder" not in str(own.value)
    every = r"model\.text_encoder = .*, model\.image_decoder = .* cannot be exported: no such operator$"
    with pytest.raises(UserError, match=every), refused(opened.model, names, parts):
        raise RuntimeError("no such operator\nand much more")


def test_what_the_system_says_of_files_is_no_refusal(folder: Path) -> None:
    opened = ibllm.open(folder, device="cpu")
    with pytest.raises(PermissionError), refused(opened.model, component_names(opened.recipe), ("text_encoder",)):
        raise PermissionError(13, "no")


def test_an_exporters_own_error_gives_its_cause_as_the_reason() -> None:
    error = torch.onnx.errors.OnnxExporterError("Failed. This is step 3/3 of exporting")
    error.__cause__ = ValueError("\n  no translation for bessel_j0\n")
    assert reason(error) == "no translation for bessel_j0"
    assert reason(KeyError()) == "KeyError"


def test_what_is_no_number_is_a_difference_unless_both_have_it() -> None:
    assert apart(np.array([1.0, -np.inf, np.nan]), np.array([1.5, -np.inf, np.nan])) == 0.5
    assert apart(np.array([1.0, np.nan]), np.array([1.0, 0.0])) == np.inf
    assert apart(np.array([True, False]), np.array([True, True])) == 1.0
    assert apart(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0
