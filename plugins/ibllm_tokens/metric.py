"""Figures of an image tokenizer by itself. Shapes: b items, m tokens, h w c image, v vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch

from ibllm.plugin import Context, ImageTokenizer, Metric, Model, to_images, to_pixels
from ibllm_tokens.config import ReconstructionMetricConfig

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


def reconstruct(model: Model, images: npt.NDArray[np.uint8], batch: int = 128) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (b h w c) through the model's image tokenizer and back: what is left of them, and their ids (b m)."""
    tokenizer = cast(ImageTokenizer, model.part("image_tokenizer"))
    if not len(images):
        rows, columns = tokenizer.grid
        return images.copy(), np.zeros((0, rows * columns), np.int64)
    with model.inference():
        shares = [images[start : start + batch] for start in range(0, len(images), batch)]
        ids = [tokenizer.encode(to_images(share).to(model.device)) for share in shares]
        pixels = [to_pixels(tokenizer.decode(some)) for some in ids]
    return np.concatenate(pixels), torch.cat(ids).cpu().numpy()


class ReconstructionMetric(Metric):
    """The mean over images of `psnr`, and `perplexity` over all their tokens."""

    def __init__(self, config: ReconstructionMetricConfig, context: Context) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        images, ids = reconstruct(evaluation.model, evaluation.real, evaluation.batch)
        return {"reconstruction_psnr": float(psnr(evaluation.real, images).mean()), "code_perplexity": perplexity(ids)}
