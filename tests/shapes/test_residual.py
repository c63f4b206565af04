"""What no scene explains, on pictures whose residual is known."""

from __future__ import annotations

import numpy as np
import pytest
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_shapes.residual import residuals
from ibllm_shapes.scenes import Scenes

from ibllm_core.interfaces.context import Context


@pytest.mark.parametrize("placement", ["cells", "free"])
def test_scenes_have_none_and_blur_blends_and_noise_have(placement: str) -> None:
    samples = ShapesDataset(ShapesConfig(placement=placement), Context()).samples("test", np.arange(40))
    images, truth = samples.images, samples.truth
    assert images is not None and isinstance(truth, Scenes)
    assert residuals(images, truth).max() < 0.002, "a level or two on the edges, where the reader's centres are a hundredth of a pixel off"
    plain, other = images.astype(np.float64), np.roll(images, 1, axis=0)
    padded = np.pad(plain, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    blurred = sum(padded[:, i : i + 32, j : j + 32] for i in range(3) for j in range(3)) / 9
    noisy = np.clip(plain + np.random.default_rng(0).normal(0, 5, plain.shape), 0, 255)
    blend = (plain + other) / 2
    found = {
        name: residuals(changed.round().astype(np.uint8), truth)
        for name, changed in (("blur", blurred), ("noise", noisy), ("blend", blend))
    }
    assert found["noise"].mean() == pytest.approx(5 / 255, rel=0.2)
    assert min(found["blur"].min(), found["blend"].min()) > 0.01


def test_where_there_is_no_scene_all_that_is_not_background_is_unexplained() -> None:
    samples = ShapesDataset(ShapesConfig(), Context()).samples("test", np.arange(1))
    assert isinstance(samples.truth, Scenes)
    checks = (np.indices((32, 32)).sum(0) // 4 % 2 * 255).astype(np.uint8)
    picture = np.repeat(checks[None, ..., None], 3, axis=3)
    assert residuals(picture, samples.truth)[0] > 0.3
