"""Figures of a codec by itself. Shapes: b items, m tokens, h w c image, v vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibllm.plugin import Context, ImageCodec, ImageTokenizer, Metric, Model, to_images, to_pixels
from ibllm_tokens.config import CodeUsageConfig, ReconstructionMetricConfig

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation


def psnr(images: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """(b) 10·log10(255² / mean squared error) in decibels; images that are the same count as off by half a level in every number."""
    error = np.square(images.astype(np.float64) - others).reshape(len(images), -1).mean(1)
    found: npt.NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(error, 0.25))
    return found


def perplexity(ids: npt.NDArray[np.int64]) -> float:
    """exp of the entropy of the ids' frequencies: v where all v tokens are used alike, 1 where one is (van den Oord et al. 2017 report it)."""
    frequencies = np.unique(ids, return_counts=True)[1] / ids.size
    return float(np.exp(-(frequencies * np.log(frequencies)).sum()))


def _by_shares(model: Model, images: npt.NDArray[np.uint8], batch: int, compute: Callable[[ImageCodec, Tensor], Tensor]) -> list[Tensor]:
    """What the model's codec makes of images (b h w c), a share at a time."""
    codec = cast(ImageCodec, model.part("image_tokenizer"))
    with model.inference():
        return [compute(codec, to_images(images[start : start + batch]).to(model.device)) for start in range(0, len(images), batch)]


def reconstruct(model: Model, images: npt.NDArray[np.uint8], batch: int = 128) -> npt.NDArray[np.uint8]:
    """What is left of images (b h w c) after the model's codec and back."""
    shares = _by_shares(model, images, batch, lambda codec, y: codec.reconstruct(y).image)
    return np.concatenate([to_pixels(share) for share in shares]) if shares else images.copy()


def image_tokens(model: Model, images: npt.NDArray[np.uint8], batch: int = 128) -> npt.NDArray[np.int64]:
    """(b m) the ids of images (b h w c)."""
    shares = _by_shares(model, images, batch, lambda codec, y: cast(ImageTokenizer, codec).encode(y))
    return torch.cat(shares).cpu().numpy() if shares else np.zeros((0, 1), np.int64)


class ReconstructionMetric(Metric):
    """The mean over images of `psnr`."""

    def __init__(self, config: ReconstructionMetricConfig, context: Context) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        images = reconstruct(evaluation.model, evaluation.real, evaluation.batch)
        return {"reconstruction_psnr": float(psnr(evaluation.real, images).mean())}


class CodeUsage(Metric):
    """`perplexity` over the tokens of all images."""

    def __init__(self, config: CodeUsageConfig, context: Context) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        return {"code_perplexity": perplexity(image_tokens(evaluation.model, evaluation.real, evaluation.batch))}
