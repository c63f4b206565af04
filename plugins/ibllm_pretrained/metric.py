"""CLIPScore: how well captions and images go together to a pair of encoders that was trained on others. Shapes: b items, h w c image, d common space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ibllm.plugin import Context, Metric, Tokens, find_folder, model_origin, settings_of, to_images, to_tokens
from ibllm_pretrained.config import (
    PAIR,
    ClipScoreConfig,
    PretrainedImageEncoderConfig,
    PretrainedTextEncoderConfig,
    PretrainedTokenizerConfig,
)
from ibllm_pretrained.image_encoder import PretrainedImageEncoder
from ibllm_pretrained.text_encoder import PretrainedTextEncoder
from ibllm_pretrained.tokenizer import PretrainedTokenizer

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Pixels = npt.NDArray[np.uint8]


class Pair:
    """Both encoders of a pair, in their common space."""

    def __init__(self, model: str, image_shape: tuple[int, int, int], device: torch.device) -> None:
        described = PretrainedTokenizer(PretrainedTokenizerConfig(model=model), Context()).vocabulary.model
        settings = settings_of(dict(described), "the metric clip_score")
        text, vision = getattr(settings, "text_config", None), getattr(settings, "vision_config", None)
        if text is None or vision is None:
            raise ValueError(f"model = {model!r}: expected a pair like CLIP or SigLIP, not model_type = {settings.model_type!r}")
        self.device, longest = device, int(text.max_position_embeddings)
        self.tokenizer = PretrainedTokenizer(PretrainedTokenizerConfig(model=model, max_length=longest), Context())
        width = int(vision.projection_dim) if hasattr(vision, "projection_dim") else int(vision.hidden_size)
        context = Context(width=width, tokenizer=self.tokenizer, image_shape=image_shape)
        self.text = PretrainedTextEncoder(PretrainedTextEncoderConfig(space="common"), context).to(device).eval()
        self.image = PretrainedImageEncoder(PretrainedImageEncoderConfig(model=model, space="common"), context).to(device).eval()

    def cut(self, captions: Sequence[str]) -> int:
        """How many captions are longer than the pair reads."""
        return sum(len(ids) > self.tokenizer.max_length - 2 for ids in self.tokenizer.encode_each(captions))

    @torch.no_grad()
    def texts(self, captions: Sequence[str], batch: int) -> Tensor:
        """b captions → (b d) unit vectors."""
        rows = [captions[at : at + batch] for at in range(0, len(captions), batch)]
        found = [self.text(Tokens(*(one.to(self.device) for one in _pair(to_tokens(self.tokenizer, some))))).pooled for some in rows]
        return F.normalize(torch.cat(found), dim=-1).cpu()

    @torch.no_grad()
    def images(self, pixels: Pixels, batch: int) -> Tensor:
        """(b h w c) → (b d) unit vectors."""
        found = [self.image(to_images(pixels[at : at + batch]).to(self.device)).pooled for at in range(0, len(pixels), batch)]
        return F.normalize(torch.cat(found), dim=-1).cpu()


def _pair(tokens: Tokens) -> tuple[Tensor, Tensor]:
    return tokens.ids, tokens.mask


class ClipScore(Metric):
    """`clip_score` of drawings, `clip_score_read` of captions, and what the data's own pairs and mixed ones come to."""

    def __init__(self, config: ClipScoreConfig, context: Context) -> None:
        self.config, self._cut = config, 0
        self._made: dict[str, Pair] = {}

    def _pair(self, evaluation: Evaluation) -> Pair:
        """Read when it is first asked for, and kept as long as the metric."""
        device = evaluation.model.device
        if str(device) not in self._made:
            self._made = {str(device): Pair(self.config.model, evaluation.model.image_shape, device)}
        return self._made[str(device)]

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        pair, batch, w = self._pair(evaluation), evaluation.batch, self.config.weight

        def score(x: Tensor, y: Tensor) -> float:
            return float(w * (x * y).sum(1).clamp(min=0).double().mean())

        captions, real = pair.texts(evaluation.captions, batch), pair.images(evaluation.real, batch)
        self._cut = pair.cut(evaluation.captions)
        every, n = w * (captions @ real.T).clamp(min=0).double(), len(captions)
        others = (every.sum() - every.diagonal().sum()) / max(1, n * (n - 1)) if n > 1 else every.mean()
        found = {"clip_score_data": score(captions, real), "clip_score_mixed": float(others)}
        if "drawn" in self.config.judges:
            found["clip_score"] = score(captions, pair.images(evaluation.generated, batch))
        if "read" in self.config.judges:
            found["clip_score_read"] = score(pair.texts(evaluation.read, batch), real)
        return found

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        told: dict[str, Any] = dict(super().record(evaluation))
        about = model_origin(self.config.model, PAIR)
        kind = settings_of(dict(self._pair(evaluation).tokenizer.vocabulary.model), "clip_score").model_type
        told |= {"extractor": f"{find_folder(self.config.model, PAIR).name} ({kind})", "sha256": about["sha256"], "w": self.config.weight}
        if len(evaluation) == 1:
            told["caution clip_score_mixed"] = "one item: there is none to mix it with"
        if self._cut:
            told["cut"] = (
                f"{self._cut} captions are longer than the pair reads, and cut to {self._pair(evaluation).tokenizer.max_length} tokens"
            )
        return told
