"""Distances equal closed forms and sums written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import scipy.signal
from ibllm_metrics.config import FrechetConfig, KernelConfig
from ibllm_metrics.distances import FrechetMetric, KernelMetric, frechet_distance, kernel_distance
from ibllm_metrics.features import random_features

from ibllm.plugin import Stream
from ibllm_core.interfaces.context import Context

Floats = npt.NDArray[np.float64]


def gaussian(mean: Floats, covariance: Floats, n: int, seed: int) -> Floats:
    """n points with exactly this mean and covariance."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def covariance(seed: int) -> Floats:
    a = np.random.default_rng(seed).normal(size=(3, 3))
    return a @ a.T + 0.1 * np.eye(3)


def test_frechet_of_independent_axes_is_a_sum_over_them() -> None:
    a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.25])
    x, y = gaussian(np.zeros(3), np.diag(a), 50, 0), gaussian(np.array([0.0, 2.0, -1.0]), np.diag(b), 70, 1)
    assert frechet_distance(x, y) == pytest.approx(5 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())


def test_frechet_with_the_matrix_root_of_another_library() -> None:
    first, second = covariance(2), covariance(3)
    x, y = gaussian(np.ones(3), first, 40, 4), gaussian(np.zeros(3), second, 40, 5)
    expected = 3 + np.trace(first + second - 2 * scipy.linalg.sqrtm(first @ second).real)
    assert frechet_distance(x, y) == pytest.approx(expected)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_where_features_are_constant_or_more_than_items() -> None:
    x = np.random.default_rng(0).normal(size=(5, 12))
    x[:, 3] = 1.0
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x[:, :1], x[:, :1] + 2) == pytest.approx(4)


def test_kernel_distance_by_brute_force() -> None:
    x, y = np.random.default_rng(1).normal(size=(6, 4)), np.random.default_rng(2).normal(size=(9, 4)) + 0.3

    def k(a: Floats, b: Floats) -> float:
        return float((a @ b / 4 + 1) ** 3)

    def within(a: Floats) -> float:
        return sum(k(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j) / (len(a) * (len(a) - 1))

    between = sum(k(a, b) for a in x for b in y) / 54
    assert kernel_distance(x, y) == pytest.approx(within(x) + within(y) - 2 * between)


def test_kernel_distance_of_one_distribution_is_nothing_on_average_whatever_the_number_of_items() -> None:
    rng = np.random.default_rng(3)
    for n in (4, 40):
        found = [kernel_distance(rng.normal(size=(n, 3)), rng.normal(size=(n, 3))) for _ in range(400)]
        assert abs(np.mean(found)) < 4 * np.std(found) / 20  # within four standard errors


def test_random_features_are_three_convolutions_written_out() -> None:
    images = np.random.default_rng(4).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    expected = []
    for image in images:
        maps = image.transpose(2, 0, 1) / 127.5 - 1
        for layer in range(3):
            weights = Stream((7, "metrics.random", layer), range(5)).normal(len(maps), 4, 4) * np.sqrt(2 / (16 * len(maps)))
            padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
            maps = np.stack(
                [sum(scipy.signal.correlate2d(m, w, "valid") for m, w in zip(padded, kernel, strict=True))[::2, ::2] for kernel in weights]
            )
            maps = np.where(maps > 0, maps, 0.2 * maps)
        expected.append(maps.mean((1, 2)))
    np.testing.assert_allclose(random_features(images, 5, 7, batch=1), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(random_features(images, 5, 7, batch=2), random_features(images, 5, 7, batch=1), rtol=1e-5, atol=1e-6)


class Drawn:
    split, batch = "test", 8

    def __init__(self, real: npt.NDArray[np.uint8], generated: npt.NDArray[np.uint8]) -> None:
        self.real, self.generated, self.hashes = real, generated, {"images": "f00d"}

    def __len__(self) -> int:
        return len(self.real)

    def once(self, name: str, compute: Any) -> Any:
        return compute()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("extractor", ["pixels", "random"])
def test_the_same_images_are_at_no_distance_and_noise_is_far(extractor: str, channels: int) -> None:
    rng = np.random.default_rng(5)
    real = np.repeat(rng.integers(0, 256, (30, 1, 1, channels)), 16, 1).repeat(16, 2).astype(np.uint8)
    noise = rng.integers(0, 256, real.shape).astype(np.uint8)
    frechet = FrechetMetric(FrechetConfig(extractor=extractor, size=4, width=8), Context())
    kernel = KernelMetric(KernelConfig(extractor=extractor, size=4, width=8), Context())
    same: Any = Drawn(real, real)
    far: Any = Drawn(real, noise)
    assert frechet.evaluate(same)[f"frechet_{extractor}"] == pytest.approx(0, abs=1e-6)
    assert frechet.evaluate(far)[f"frechet_{extractor}"] > 0.05
    assert kernel.evaluate(same)[f"kernel_{extractor}"] < kernel.evaluate(far)[f"kernel_{extractor}"]
    record = dict(frechet.record(far))
    assert record.pop("caution frechet_pixels", "") == (
        "biased upwards: 30 items for 48 features are too few for their covariance" if (extractor, channels) == ("pixels", 3) else ""
    )
    assert not [key for key in kernel.record(far) if key.startswith("caution")]
    assert record == {
        "n": 30,
        "images": "f00d",
        "extractor": extractor,
        **({"features": 16 * channels, "size": 4} if extractor == "pixels" else {"features": 8, "seed": 0}),
    }


def test_one_image_has_no_distribution() -> None:
    one: Any = Drawn(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="at least 2 items"):
        FrechetMetric(FrechetConfig(), Context()).evaluate(one)


def test_every_figure_that_options_give_has_a_meaning() -> None:
    for extractor in ("pixels", "random", "encoder", "efficientnet_lite0"):
        for config in (FrechetConfig(extractor=extractor), KernelConfig(extractor=extractor)):
            (figure,) = config.figures()
            assert figure.name.endswith(extractor)
            assert figure.meaning
            assert ("image_encoder" in config.needs()) == bool(figure.caution)
