"""Codecs of `diffusers`. Shapes: b batch, c h w image, c' h' w' latents, m tokens, e width of a code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ibllm.plugin import Context, ImageCodec, ImageTokenizer, LatentCodec, Reconstruction, adapt, dtype_of, find_folder, library
from ibllm_pretrained.config import CODEC, PretrainedCodecConfig

USER = "the codec pretrained"
#: What a folder's config.json says it is → what it gives.
CLASSES = {"VQModel": "tokens", "AutoencoderKL": "latents", "AutoencoderDC": "latents"}
#: Weight of the encoder's commitment to its codes (van den Oord et al. 2017, eq. 3), as in the library.
COMMITMENT = 0.25


class _Codec(ImageCodec):
    """A model of the library and what both kinds do with it."""

    checkpointed = ("model.encoder.down_blocks", "model.decoder.up_blocks")

    def __init__(self, config: PretrainedCodecConfig, context: Context) -> None:
        super().__init__()
        folder = find_folder(config.model, CODEC)
        self.frozen, self.dtype, self.image_shape = config.mode == "frozen", dtype_of(config), context.image_shape
        self.model, self._notes = load(folder, config)
        adapt(self.model, config)
        channels = int(self.model.config.in_channels)
        if channels != context.image_shape[0]:
            raise ValueError(f"model = {config.model!r}: it sees {channels} channels, and the images have {context.image_shape[0]}")
        blocks = getattr(self.model.config, "block_out_channels", None) or self.model.config.encoder_block_out_channels
        self.ratio = 2 ** (len(blocks) - 1)
        if any(side % self.ratio for side in context.image_shape[1:]):
            h, w = context.image_shape[1:]
            raise ValueError(
                f"model = {config.model!r}: images of {w} × {h}: expected sides that {self.ratio} divides, as many pixels as a place has"
            )
        self.grid = context.image_shape[1] // self.ratio, context.image_shape[2] // self.ratio

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the model."""
        return self._notes

    def train(self, mode: bool = True) -> _Codec:
        """A frozen model's dropout stays off."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def _image(self, y: Tensor) -> Tensor:
        """What the model draws, within [−1, 1] as its pipelines have it; gradients pass as if nothing were cut."""
        y = y.float()
        return y + (y.clamp(-1, 1) - y).detach()


class PretrainedTokens(_Codec, ImageTokenizer):
    """A VQModel: the nearest code of each place (van den Oord et al. 2017)."""

    def __init__(self, config: PretrainedCodecConfig, context: Context) -> None:
        super().__init__(config, context)
        self.vocabulary = int(self.model.config.num_vq_embeddings)

    def encode(self, y: Tensor) -> Tensor:
        return self._ids(self.model.encode(y.to(self.dtype)).latents)

    def _ids(self, latents: Tensor) -> Tensor:
        """latents (b e h' w') → the nearest codes' ids (b m)."""
        places = latents.float().flatten(2).transpose(1, 2)
        ids: Tensor = torch.cdist(places, self.model.quantize.embedding.weight.float()).argmin(-1)
        return ids

    def _codes(self, ids: Tensor) -> Tensor:
        """ids (b m) → codes (b e h' w')."""
        codes: Tensor = self.model.quantize.embedding(ids).transpose(1, 2).unflatten(-1, self.grid)
        return codes

    def _drawn(self, codes: Tensor) -> Tensor:
        # What the library's `decode` does with codes that are looked up, without the loss of zeros that it copies to the device.
        codes = codes.to(self.dtype)
        given = codes if self.model.config.norm_type == "spatial" else None
        return self._image(self.model.decoder(self.model.post_quant_conv(codes), given))

    def decode(self, ids: Tensor) -> Tensor:
        return self._drawn(self._codes(ids))

    def reconstruct(self, y: Tensor) -> Reconstruction:
        latents = self.model.encode(y.to(self.dtype)).latents
        ids = self._ids(latents)
        codes = self._codes(ids)
        commitment = y.new_zeros(len(y))
        if not self.frozen:
            towards, from_them = (latents - codes.detach()).square(), (latents.detach() - codes).square()
            commitment = (COMMITMENT * towards + from_them).float().flatten(1).mean(1)
        return Reconstruction(self._drawn(latents + (codes - latents).detach()), commitment, ids)


class PretrainedLatents(_Codec, LatentCodec):
    """An autoencoder's latents, without chance (the mean of an AutoencoderKL), scaled and shifted as its configuration says."""

    def __init__(self, config: PretrainedCodecConfig, context: Context) -> None:
        super().__init__(config, context)
        given = self.model.config
        self.scale, self.shift = float(given.get("scaling_factor") or 1.0), float(given.get("shift_factor") or 0.0)
        self.latent_shape = (int(given.latent_channels), *self.grid)

    def encode_latents(self, y: Tensor) -> Tensor:
        out = self.model.encode(y.to(self.dtype))
        latents = out.latent_dist.mode() if hasattr(out, "latent_dist") else out.latent
        scaled: Tensor = (latents.float() - self.shift) * self.scale
        return scaled

    def decode_latents(self, latents: Tensor) -> Tensor:
        return self._image(self.model.decode((latents / self.scale + self.shift).to(self.dtype)).sample)

    def reconstruct(self, y: Tensor) -> Reconstruction:
        return Reconstruction(self.decode_latents(self.encode_latents(y)), y.new_zeros(len(y)))


def load(folder: Path, config: PretrainedCodecConfig) -> tuple[Any, tuple[str, ...]]:
    """The folder's model, and what a user should know of its weights, which a saved model brings and the meta device has not.

    Raises `ValueError` where it is no codec, gives something else than is asked for, or lacks weights.
    """
    diffusers = library("diffusers", USER)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = described.get("_class_name", "")
    if name not in CLASSES:
        raise ValueError(
            f"model = {config.model!r}: expected a codec of diffusers ({', '.join(CLASSES)}), not {name or 'a model of another library'}"
        )
    if CLASSES[name] != config.gives:
        raise ValueError(f'gives = "{config.gives}": expected "{CLASSES[name]}", which is what a model of {name} gives')
    cls, gone = getattr(diffusers, name), not any(folder.glob("*.safetensors"))
    if gone or torch.empty(()).is_meta:
        made = nn.Module.to(cls.from_config(described), dtype=dtype_of(config))
        return made, ((f"{folder} has no weights: they are to come from a saved model",) if gone else ())
    with _quietly(diffusers):
        model, report = cls.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            torch_dtype=dtype_of(config),
        )
    if report["missing_keys"]:
        raise ValueError(f"{folder}: expected all weights of a {name}; {sorted(report['missing_keys'])[0]} is missing")
    unused = sorted(report["unexpected_keys"])
    return model, ((f"{folder}: {len(unused)} weights are not used by a {name}, {unused[0]} among them",) if unused else ())


@contextmanager
def _quietly(diffusers: Any) -> Iterator[None]:
    """Without the messages that `diffusers` writes while it loads."""
    level = diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers.logging.set_verbosity(level)


def image_tokenizer(config: PretrainedCodecConfig, context: Context) -> nn.Module:
    """The codec that gives what is asked for."""
    return (PretrainedTokens if config.gives == "tokens" else PretrainedLatents)(config, context)
