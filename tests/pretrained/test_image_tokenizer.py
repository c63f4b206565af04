"""Codecs of diffusers: tokens, latents and images are the library's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_pretrained.config import PretrainedCodecConfig
from ibllm_pretrained.image_tokenizer import image_tokenizer

from ibllm_core.interfaces.batch import to_images
from ibllm_core.interfaces.context import Context
from tests.pretrained.test_image_encoder import pictures

diffusers = pytest.importorskip("diffusers")

Folder = Callable[[str], Path]
CLASSES = {"vq": "VQModel", "kl": "AutoencoderKL", "dc": "AutoencoderDC"}


def codec(folder: Path, shape: tuple[int, int, int] = (3, 32, 32), **options: Any) -> Any:
    given = {"gives": "tokens" if "vq" in folder.name else "latents"} | options
    return image_tokenizer(PretrainedCodecConfig(model=str(folder), **given), Context(image_shape=shape)).eval()


def library(folder: Path, kind: str) -> Any:
    return getattr(diffusers, CLASSES[kind]).from_pretrained(folder).eval()


def test_tokens_are_the_librarys(codec_folder: Folder) -> None:
    part, model, y = codec(codec_folder("vq")), library(codec_folder("vq"), "vq"), to_images(pictures())
    with torch.no_grad():
        latents = model.encode(y).latents
        quantised, _, (_, _, ids) = model.quantize(latents)
        found = part(y)
        assert torch.equal(part.encode(y), ids.view(2, -1)) and torch.equal(found.ids, part.encode(y))
        assert len(set(ids.tolist())) > 2
        expected = model.decode(quantised, force_not_quantize=True).sample.clamp(-1, 1)
        assert torch.allclose(part.decode(part.encode(y)), expected, atol=1e-5)
        assert torch.allclose(found.image, model(y).sample.clamp(-1, 1), atol=1e-5)
    assert part.grid == (8, 8) and part.vocabulary == 16
    assert not bool(found.regularisation.any())


@pytest.mark.parametrize("kind", ["kl", "dc"])
def test_latents_are_the_librarys_scaled(codec_folder: Folder, kind: str) -> None:
    part, model, y = codec(codec_folder(kind)), library(codec_folder(kind), kind), to_images(pictures())
    with torch.no_grad():
        out = model.encode(y)
        latents = out.latent_dist.mode() if kind == "kl" else out.latent
        scaled = (latents - 0.1) * 0.5 if kind == "kl" else latents * 0.4
        assert torch.allclose(part.encode_latents(y), scaled, atol=1e-5)
        assert torch.allclose(part.decode_latents(scaled), model.decode(latents).sample.clamp(-1, 1), atol=1e-5)
        assert torch.allclose(part(y).image, model.decode(latents).sample.clamp(-1, 1), atol=1e-5)
    assert part.latent_shape == (4, 8, 8)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_tuned_codec_is_trained_whole_and_a_frozen_one_not(codec_folder: Folder, kind: str) -> None:
    y = to_images(pictures())
    assert not list(codec(codec_folder(kind)).parameters())
    part = codec(codec_folder(kind), mode="tuned").train()
    found = part(y)
    ((found.image - y).square().mean() + found.regularisation.sum()).backward()
    missed = {name for name, p in part.named_parameters() if p.grad is None}
    # The KL codec's variance has no say in a reconstruction from the mean; its weights are a layer's with the mean's.
    assert not missed
    assert (float(found.regularisation.detach().sum()) > 0) == (kind == "vq")


def test_weights_are_kept_in_bfloat16_where_that_is_asked_for(codec_folder: Folder) -> None:
    y = to_images(pictures())
    part = codec(codec_folder("kl"), dtype="bfloat16")
    assert {tensor.dtype for tensor in part.state_dict().values()} == {torch.bfloat16}
    assert part.encode_latents(y).dtype == torch.float32
    assert float((part(y).image - codec(codec_folder("kl"))(y).image).abs().mean()) < 0.02


# What the user may get wrong.


def test_what_does_not_fit_is_refused(codec_folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'gives = "latents": expected "tokens", which is what a model of VQModel gives'):
        codec(codec_folder("vq"), gives="latents")
    with pytest.raises(ValueError, match="it sees 3 channels, and the images have 1"):
        codec(codec_folder("kl"), (1, 32, 32))
    with pytest.raises(ValueError, match=r"images of 30 × 32: expected sides that 4 divides"):
        codec(codec_folder("kl"), (3, 32, 30))
    with pytest.raises(ValueError, match="mode = 'lora': expected frozen or tuned for a codec"):
        PretrainedCodecConfig(model="x", mode="lora")
    folder = Path(shutil.copytree(codec_folder("kl"), tmp_path / "kl"))
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"expected a codec of diffusers \(VQModel, AutoencoderKL, AutoencoderDC\), not a model of another library"
    ):
        codec(folder)


def test_weights_that_are_missing_or_left_over_are_told(codec_folder: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(codec_folder("kl"), tmp_path / "kl"))
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file({**weights, "more": torch.ones(1)}, file, {"format": "pt"})
    assert codec(folder).notes() == (f"{folder}: 1 weights are not used by a AutoencoderKL, more among them",)
    weights.pop("post_quant_conv.weight")
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"expected all weights of a AutoencoderKL; post_quant_conv\.weight is missing"):
        codec(folder)
    file.unlink()
    (problem,) = PretrainedCodecConfig(model=str(folder)).check()
    assert "a folder with weights (*.safetensors)" in str(problem)
    assert codec(folder).notes() == (f"{folder} has no weights: they are to come from a saved model",)


def test_a_missing_extra_is_named(codec_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r'needs the package diffusers: pip install "ibllm\[diffusers\]"'):
        codec(codec_folder("kl"))
