"""E_y as a pretrained vision model. Shapes: b batch, c h w image, n places, e width of the model, d latent width."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm.plugin import Context, ImageEncoder, Latent, adapt, dtype_of, find_folder, load_local, recomputable, settings_of
from ibllm_pretrained.config import VISION, PretrainedImageEncoderConfig
from ibllm_pretrained.layers import common_width, into_common, keep_layers, tower

USER = "the image encoder pretrained"
#: Pillow's numbers of ways to resize, as preprocessor_config.json says them → torch's.
WAYS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
#: Beginnings of the weights of a pair that its image tower does not have, and of heads that nobody asks for.
OTHERS = ("text_", "logit_", "classifier.", "visual_projection.", "pooler.")


class PretrainedImageEncoder(ImageEncoder):
    """A layer of the model, projected and normalised: a place for each patch, row by row, after the class token's where it is asked for.

    The model's own preprocessing is within, so that a gradient goes through to the image. What is not trained is kept as buffers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: PretrainedImageEncoderConfig, context: Context) -> None:
        super().__init__()
        folder = find_folder(config.model, VISION)
        self.width, self.frozen, self.dtype = config.width or context.width, config.mode == "frozen", dtype_of(config)
        self.class_token, self.pooling, self.common = config.class_token, config.pooling, config.space == "common"
        self.pair = config.model if self.common and self.frozen else ""
        settings = settings_of(_read(folder / VISION[0]), USER)
        settings = getattr(settings, "vision_config", settings)
        self.backbone, self._notes = load_local(
            tower(settings, self.common), folder, settings, dtype=self.dtype, but=("pooler.",), others=OTHERS, weightless=True
        )
        self._check(config)
        self.checkpointed = recomputable(self.backbone, "backbone")
        adapt(self.backbone, config)
        self._prepare(_read(folder / VISION[1]), context.image_shape[0])
        self._fit(config, context.image_shape)
        self.grid = self.side // int(getattr(settings, "patch_size", 0) or self.side)
        inner = int(getattr(settings, "hidden_size", 0) or settings.hidden_sizes[-1])
        self.project = nn.Identity() if self.common else nn.Linear(inner, self.width)
        self.norm = nn.Identity() if self.common else nn.LayerNorm(self.width)

    def _check(self, config: PretrainedImageEncoderConfig) -> None:
        """Takes from the model what nobody uses. Raises `ValueError` where it sees no images, or options do not fit."""
        model = self.backbone
        if "pixel_values" not in inspect.signature(model.forward).parameters:
            raise ValueError(f"model_type = {model.config.model_type!r}: expected a vision model, which reads pixels")
        if self.common:
            if config.layer != -1:
                raise ValueError(f'layer = {config.layer}: expected -1 where space = "common", which is that of the last layer')
            if self.width != (wide := common_width(model)):
                raise ValueError(f"width = {self.width}: expected {wide}, that of the pair's common space, as nothing of ours is between")
            return
        keep_layers(model, config.layer)
        for name in ("pooler", "post_layernorm") if model.config.model_type == "clip_vision_model" else ("pooler", "head"):
            if isinstance(getattr(model, name, None), nn.Module):
                setattr(model, name, nn.Identity())  # what it gives is not used, so its weights would get no gradient

    def _prepare(self, described: dict[str, Any], channels: int) -> None:
        """What the model's images are, as preprocessor_config.json says: (y·scale − mean) / std of y in [0, 1]."""
        if channels not in (1, 3):
            raise ValueError(f"images of {channels} channels: expected 1 or 3, which the model sees as colours")
        normal = bool(described.get("do_normalize", True))
        mean, std = (described.get(key) if normal else None for key in ("image_mean", "image_std"))
        # Models that are told pixels from 0 to 255 say so by a factor; images in [0, 1] are 1/255 of them.
        scale = 255.0 * float(described.get("rescale_factor", 1 / 255)) if described.get("do_rescale", True) else 255.0
        self.way = WAYS.get(2 if described.get("resample") is None else int(described["resample"]), "bilinear")
        self.size = _side(described.get("crop_size") if described.get("do_center_crop", True) else 0) or _side(described.get("size"))
        for name, values in (("mean", mean or [0.0] * 3), ("std", std or [1.0] * 3)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) / scale, persistent=False)

    def _fit(self, config: PretrainedImageEncoderConfig, shape: tuple[int, int, int]) -> None:
        """The side that images are resized to, and whether positions are interpolated."""
        trained = _side(getattr(self.backbone.config, "image_size", None)) or max(shape[1:])
        patch = int(getattr(self.backbone.config, "patch_size", 1) or 1)
        self.side = (self.size or trained) if config.resize else max(patch, shape[1] // patch * patch)
        self.given: dict[str, Any] = {}
        if not config.resize and shape[1] != shape[2]:
            raise ValueError(f"resize = false: expected square images, whose places are a square grid, not {shape[1:]}")
        if self.side != trained and "interpolate_pos_encoding" in inspect.signature(self.backbone.forward).parameters:
            self.given = {"interpolate_pos_encoding": True}
        elif self.side != trained and self.backbone.config.model_type not in FREE_SIZES:
            raise ValueError(
                f"resize = false: expected images of {trained} × {trained}; {self.backbone.config.model_type} cannot interpolate positions"
            )
        if shape[1:] != (self.side, self.side):
            h, w = shape[1:]
            self._notes = (
                *self._notes,
                f"images of {w} × {h} pixels are resized to {self.side} × {self.side} for {Path(config.model).name}",
            )

    def notes(self) -> tuple[str, ...]:
        """What a user should know of the model."""
        return self._notes

    def train(self, mode: bool = True) -> PretrainedImageEncoder:
        """A frozen model's dropout stays off."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def prepared(self, y: Tensor) -> Tensor:
        """y (b c h w) in [−1, 1] → as the model sees it (b 3 s s)."""
        y = (y.expand(-1, 3, -1, -1) + 1) / 2
        if y.shape[2:] != (self.side, self.side):
            smooth = {} if self.way == "nearest-exact" else {"antialias": True, "align_corners": False}
            y = F.interpolate(y, (self.side, self.side), mode=self.way, **smooth)
        return (y - self.mean) / self.std

    def forward(self, y: Tensor) -> Latent:
        x, token, own = self._seen(self.prepared(y))
        x = self.norm(self.project(x))
        first = None if token is None else self.norm(self.project(token)) if own is None else own.unsqueeze(1)
        if first is None and (self.class_token or self.pooling == "token"):
            what = "class_token = true" if self.class_token else 'pooling = "token"'
            raise ValueError(f"{what}: expected a model that has a class token; this one has none")
        pooled = own if own is not None else x.mean(1) if first is None or self.pooling == "mean" else first.squeeze(1)
        if self.class_token and first is not None:
            x = torch.cat([first, x], 1)
        return Latent(x, x.new_ones(x.shape[:2], dtype=torch.bool), pooled)

    def _seen(self, pixels: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """pixels (b 3 s s) → the grid's places (b n e), the class token (b 1 e) or None, and of a pair its pooled point (b d)."""
        out = self.backbone(pixel_values=pixels.to(self.dtype), **self.given)
        x: Tensor = out.last_hidden_state.float()
        if x.dim() == 4:
            x = x.flatten(2).transpose(1, 2)
        own = None
        if self.common:
            embedded = getattr(out, "image_embeds", None)
            own = (out.pooler_output if embedded is None else embedded).float()
            norm = getattr(getattr(self.backbone, "vision_model", None), "post_layernorm", None)
            x = into_common(self.backbone, (x if norm is None or embedded is None else norm(x.to(self.dtype))).to(self.dtype)).float()
        places = self.grid**2 if self.grid > 1 and x.shape[1] >= self.grid**2 else math.isqrt(x.shape[1]) ** 2
        # What is not of the grid comes before it: the class token, then registers.
        return x[:, x.shape[1] - places :], (x[:, :1] if x.shape[1] > places else None), own


#: Models that interpolate their positions without being asked.
FREE_SIZES = ("dinov2", "dinov2_with_registers", "dinov3_vit", "resnet", "convnext", "convnextv2", "swin", "swinv2")


def _side(said: Any) -> int:
    """A side in pixels as a configuration says it: a number, a pair, or a table; 0 where it says none."""
    if isinstance(said, dict):
        said = next((said[key] for key in ("height", "shortest_edge") if key in said), 0)
    return int((said[0] if isinstance(said, list | tuple) else said) or 0)


def _read(file: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return described
