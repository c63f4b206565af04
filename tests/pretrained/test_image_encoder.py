"""Pretrained image encoders: what the library's model sees, after the library's preprocessing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_pretrained.config import PretrainedImageEncoderConfig
from ibllm_pretrained.image_encoder import PretrainedImageEncoder
from PIL import Image
from torch import Tensor

from ibllm_core.interfaces.batch import to_images
from ibllm_core.interfaces.context import Context
from tests.pretrained.models import PREPROCESSORS

transformers = pytest.importorskip("transformers")

Folder = Callable[[str], Path]
KINDS = tuple(PREPROCESSORS)
EXTRA = {"clip": 1, "siglip": 0, "dinov2": 1, "vit": 1}
#: A pair's image tower by itself.
TOWERS = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel", "dinov2": "Dinov2Model", "vit": "ViTModel"}


def encoder(folder: Path, shape: tuple[int, int, int] = (3, 32, 32), **options: Any) -> PretrainedImageEncoder:
    torch.manual_seed(1)
    return PretrainedImageEncoder(PretrainedImageEncoderConfig(model=str(folder), **options), Context(width=8, image_shape=shape)).eval()


def pictures(side: int = 32, channels: int = 3) -> Any:
    """(b h w c) uint8, smooth."""
    small = np.random.default_rng(0).integers(0, 256, (2, 6, 6, channels), np.uint8)
    resized = [Image.fromarray(one.squeeze()).resize((side, side), Image.Resampling.BICUBIC) for one in small]
    return np.stack([np.asarray(one).reshape(side, side, channels) for one in resized])


def reference(folder: Path, kind: str) -> Any:
    return getattr(transformers, TOWERS[kind]).from_pretrained(folder, attn_implementation="eager").eval()


def places(part: PretrainedImageEncoder, y: Tensor) -> Tensor:
    """What our part takes of the model, before it is projected."""
    with torch.no_grad():
        return part._seen(part.prepared(y))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_it_sees_what_the_librarys_model_sees(model_folder: Folder, kind: str) -> None:
    folder = model_folder(kind)
    pixels = pictures()
    given = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")(list(pixels), return_tensors="pt")["pixel_values"]
    part, model = encoder(folder), reference(folder, kind)
    y = to_images(pixels)
    assert torch.allclose(part.prepared(y), given, atol=1e-5)
    with torch.no_grad():
        expected = model(given, output_hidden_states=True)
    assert torch.allclose(places(part, y), expected.last_hidden_state[:, EXTRA[kind] :], atol=1e-5)
    for layer in (0, 2, -2):
        other = encoder(folder, layer=layer)
        assert torch.allclose(places(other, y), expected.hidden_states[layer][:, EXTRA[kind] :], atol=1e-5)
    assert part(y).tokens.shape == (2, 16, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_other_sizes_are_resized_and_that_is_told(model_folder: Folder, kind: str) -> None:
    folder = model_folder(kind)
    part = encoder(folder, (3, 48, 40))
    (told,) = part.notes()
    assert told == f"images of 40 × 48 pixels are resized to 32 × 32 for {folder.name}"
    y = to_images(pictures(48)[:, :, :40])
    assert part(y).tokens.shape == (2, 16, 8)
    way = {2: Image.Resampling.BILINEAR, 3: Image.Resampling.BICUBIC}[PREPROCESSORS[kind]["resample"]]
    resized = np.stack([np.asarray(Image.fromarray(one).resize((32, 32), way)) for one in pictures(48)[:, :, :40]])
    # Pillow rounds to whole pixel values and stays within [0, 255].
    assert float((part.prepared(y) - part.prepared(to_images(resized))).abs().max()) < 0.15
    assert encoder(folder).notes() == ()


@pytest.mark.parametrize("kind", KINDS)
def test_positions_are_interpolated_where_images_stay_as_they_are(model_folder: Folder, kind: str) -> None:
    folder = model_folder(kind)
    part, model = encoder(folder, (3, 48, 48), resize=False), reference(folder, kind)
    y = to_images(pictures(48))
    more = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        expected = model(part.prepared(y), **more).last_hidden_state[:, EXTRA[kind] :]
    assert torch.allclose(places(part, y), expected, atol=1e-5)
    assert part(y).tokens.shape == (2, 36, 8) and part.notes() == ()
    assert encoder(folder, (3, 50, 50), resize=False).side == 48


def test_grey_images_are_seen_as_colours(model_folder: Folder) -> None:
    grey = to_images(pictures(32, 1))
    part, colours = encoder(model_folder("vit"), (1, 32, 32)), encoder(model_folder("vit"))
    assert torch.equal(part(grey).pooled, colours(grey.expand(-1, 3, -1, -1)).pooled)
    with pytest.raises(ValueError, match="images of 4 channels: expected 1 or 3"):
        encoder(model_folder("vit"), (4, 32, 32))


def test_the_class_token_may_be_a_place_and_the_whole(model_folder: Folder) -> None:
    y = to_images(pictures())
    part, without = encoder(model_folder("vit"), class_token=True), encoder(model_folder("vit"))
    z = part(y)
    assert z.tokens.shape == (2, 17, 8)
    assert torch.equal(z.tokens[:, 0], z.pooled) and torch.equal(z.tokens[:, 1:], without(y).tokens)
    mean = encoder(model_folder("vit"), pooling="mean")(y)
    assert torch.allclose(mean.pooled, mean.tokens.mean(1))
    assert torch.allclose(encoder(model_folder("siglip"))(y).pooled, encoder(model_folder("siglip"), pooling="mean")(y).pooled)
    for options, what in (({"class_token": True}, "class_token = true"), ({"pooling": "token"}, 'pooling = "token"')):
        with pytest.raises(ValueError, match=f"{what}: expected a model that has a class token"):
            encoder(model_folder("siglip"), **options)(y)


@pytest.mark.parametrize("mode", ["frozen", "lora", "tuned"])
def test_gradients_reach_the_image_and_what_is_trained(model_folder: Folder, mode: str) -> None:
    pytest.importorskip("peft")
    part = encoder(model_folder("dinov2"), mode=mode).train()
    y = to_images(pictures()).requires_grad_()
    z = part(y)
    (z.tokens.square().sum() + (z.pooled * torch.arange(8.0)).sum()).backward()
    assert y.grad is not None and bool(y.grad.any())
    trained = {name for name, p in part.named_parameters() if p.grad is not None}
    assert trained >= {name for name, _ in part.named_parameters() if "project" in name or ("norm." in name and "backbone" not in name)}
    assert any(name.startswith("backbone") for name in trained) == (mode != "frozen")
    assert all("lora_" in name for name in trained if name.startswith("backbone")) or mode == "tuned"


# What the user may get wrong.


def test_folders_without_a_vision_model_are_refused(model_folder: Folder, tmp_path: Path) -> None:
    def said(folder: Path) -> str:
        return "; ".join(map(str, PretrainedImageEncoderConfig(model=str(folder)).check()))

    assert "lacks preprocessor_config.json" in said(model_folder("llama"))
    assert said(model_folder("vit")) == ""
    folder = Path(shutil.copytree(model_folder("llama"), tmp_path / "llama"))
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match="model_type = 'llama': expected a vision model, which reads pixels"):
        encoder(folder)
    (folder / "model.safetensors").unlink()
    assert "a folder with weights (*.safetensors); what is pickled is never read" in said(folder)


def test_options_that_do_not_fit_are_refused(model_folder: Folder) -> None:
    with pytest.raises(ValueError, match="layer = 4: expected a layer of the model, from -4 to 3"):
        encoder(model_folder("vit"), layer=4)
    with pytest.raises(ValueError, match="resize = false: expected square images"):
        encoder(model_folder("vit"), (3, 32, 48), resize=False)
    with pytest.raises(ValueError, match="space = \"common\": expected one of a pair like CLIP or SigLIP, not model_type = 'vit'"):
        encoder(model_folder("vit"), space="common")
    with pytest.raises(ValueError, match="width = 8: expected 12, that of the pair's common space"):
        encoder(model_folder("clip"), space="common")
