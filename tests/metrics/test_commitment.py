"""Detail equals another library's Laplacian; spread and error of Gaussian drawings are as their widths say."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
from ibllm_metrics.commitment import CommitmentMetric, detail, spread_error_ratio
from ibllm_metrics.config import CommitmentConfig

from ibllm_core.interfaces.context import Context

Pixels = npt.NDArray[np.uint8]


def random_images(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def blurred(images: Pixels) -> Pixels:
    return np.rint(scipy.ndimage.gaussian_filter(images.astype(np.float64), 0.8, axes=(-3, -2), mode="nearest")).astype(np.uint8)


def test_detail_is_another_library_s_laplacian_squared() -> None:
    images = random_images(3, 7, 9, 2)
    maps = [scipy.ndimage.laplace(image[..., c] / 255, mode="nearest") for image in images for c in range(2)]
    assert detail(images) == pytest.approx(np.square(maps).mean())
    assert detail(np.full((2, 5, 5, 3), 90, np.uint8)) == 0


def test_detail_of_a_wave_is_its_amplitude_by_its_frequency() -> None:
    """Of cos(u·x) with whole periods between mirrored edges, amplitude a: a² / 2 · (2 − 2·cos u)²."""
    n, periods, a = 64, 8, 100 / 255
    x = np.rint(127 + 100 * np.cos(2 * np.pi * periods * (np.arange(n) + 0.5) / n))
    u = 2 * np.pi * periods / n
    images = np.tile(x.astype(np.uint8)[None, None, :, None], (1, 3, 1, 1))
    assert detail(images) == pytest.approx(a**2 / 2 * (2 - 2 * np.cos(u)) ** 2, rel=0.02)


@pytest.mark.parametrize(("width", "k"), [(1.0, 4), (0.5, 4), (2.0, 3), (0.0, 4)])
def test_spread_by_error_of_gaussian_drawings(width: float, k: int) -> None:
    """Data of variance 1 about a mean that the caption says, drawings of variance w² about the same one: √((k + 1) / k · w² / (1 + w² / k))."""
    rng = np.random.default_rng(k)
    mean = rng.uniform(110, 140, (1, 400, 8, 8, 3))
    data, drawn = mean[0] + 10 * rng.normal(size=mean.shape[1:]), mean + 10 * width * rng.normal(size=(k, *mean.shape[1:]))
    expected = np.sqrt((k + 1) / k * width**2 / (1 + width**2 / k))
    assert spread_error_ratio(np.rint(drawn).astype(np.uint8), np.rint(data).astype(np.uint8)) == pytest.approx(expected, rel=0.02)


class Drawn:
    split, hashes = "test", {"images": "f00d"}

    def __init__(self, real: Pixels, many: Pixels) -> None:
        self.real, self.many = real, many

    def __len__(self) -> int:
        return len(self.real)

    def once(self, name: str, compute: Any) -> Any:
        return compute()

    def draws(self, count: int) -> Pixels:
        return self.many[:count]


def figures(real: Pixels, many: Pixels) -> dict[str, float]:
    evaluation: Any = Drawn(real, many)
    return CommitmentMetric(CommitmentConfig(draws=3), Context()).evaluate(evaluation)


def test_blur_collapse_and_noise_are_told_apart() -> None:
    """Data: a bright square anywhere, which the caption does not say."""
    rng = np.random.default_rng(0)

    def squares(*shape: int) -> Pixels:
        images = np.full((*shape, 16, 16, 1), 20, np.uint8)
        for place in np.ndindex(shape):
            y, x = rng.integers(0, 12, 2)
            images[place][y : y + 4, x : x + 4] = 220
        return images

    real, mean = squares(200), np.full((3, 200, 16, 16, 1), 33, np.uint8)
    as_data = figures(real, squares(3, 200))
    assert as_data["sharpness"] == pytest.approx(1, abs=0.05)
    assert as_data["spread_error_ratio"] == pytest.approx(1, abs=0.05)
    assert figures(real, mean) == {"sharpness": 0, "spread_error_ratio": 0}
    assert figures(real, np.repeat(squares(1, 200), 3, 0))["spread_error_ratio"] == 0
    assert figures(real, blurred(squares(3, 200)))["sharpness"] < 0.4
    assert figures(real, random_images(3, 200, 16, 16, 1))["sharpness"] > 3
    assert figures(real, np.stack([real] * 3)) == {"sharpness": 1, "spread_error_ratio": 1}


def test_images_of_one_colour_have_no_detail_to_compare() -> None:
    plain = np.full((4, 8, 8, 3), 7, np.uint8)
    with pytest.raises(ValueError, match="of one colour each"):
        figures(plain, random_images(3, 4, 8, 8, 3))
