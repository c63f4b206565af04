"""What images are compared by. Shapes: b images, h w c image, d features, k channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ibllm.plugin import Stream, to_images
from ibllm_metrics import efficientnet
from ibllm_metrics.config import FeatureOptions
from ibllm_metrics.images import resized
from ibllm_metrics.pair_scores import pooled_images

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float64]
#: Convolutions of the random network; each halves height and width.
_LAYERS = 3


def both(given: FeatureOptions, evaluation: Evaluation) -> tuple[Features, Features]:
    """Of the real and of the generated images (b d); metrics of the same options share them."""
    name = f"metrics.features.{given.extractor}.{given.size}.{given.width}.{given.seed}.{given.resolution}"
    return evaluation.once(
        name, lambda: (extract_features(given, evaluation, evaluation.real), extract_features(given, evaluation, evaluation.generated))
    )


def described(given: FeatureOptions, evaluation: Evaluation) -> Mapping[str, str | int | float]:
    """What a record says of the feature space."""
    chosen: Mapping[str, Mapping[str, str | int | float]] = {"pixels": {"size": given.size}, "random": {"seed": given.seed}}
    found: dict[str, str | int | float] = {"extractor": given.extractor, "features": both(given, evaluation)[0].shape[1]}
    if given.extractor == "efficientnet_lite0":
        return found | {"resolution": given.resolution} | efficientnet.described()
    return {**found, **chosen.get(given.extractor, {})}


def extract_features(given: FeatureOptions, evaluation: Evaluation, images: Pixels) -> Features:
    """images (b h w c) → (b d)."""
    if given.extractor == "pixels":
        return resized(images, given.size).astype(np.float64)
    if given.extractor == "encoder":
        return pooled_images(evaluation.model, images, evaluation.batch)
    if given.extractor == "efficientnet_lite0":
        return efficientnet.features(images, given.resolution, evaluation.batch, evaluation.model.device)
    return random_features(images, given.width, given.seed, evaluation.batch)


def random_features(images: Pixels, width: int, seed: int, batch: int) -> Features:
    """images (b h w c) → (b width): three 4 × 4 convolutions of stride 2 with `width` channels, leaky ReLUs after each, and the mean over places.

    Weights are standard normal, scaled by √(2 / inputs) (He et al. 2015), keyed by seed and layer, the same on every machine. Random
    networks tell distributions of images apart without having seen any (Naeem et al. 2020, section 3.3).
    """
    weights = []
    inputs = images.shape[-1]
    for layer in range(_LAYERS):
        drawn = Stream((seed, "metrics.random", layer), range(width)).normal(inputs, 4, 4)
        weights.append(torch.from_numpy(drawn * np.sqrt(2 / (inputs * 16))).float())
        inputs = width
    found = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            y = to_images(images[start : start + batch])
            for weight in weights:
                y = F.leaky_relu(F.conv2d(y, weight, stride=2, padding=1), 0.2)
            found.append(y.mean((2, 3)).double().numpy())
    return np.concatenate(found)
