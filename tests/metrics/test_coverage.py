"""Precision, recall, density and coverage equal sums written out, and what is expected of the data's own images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ibllm_metrics.config import CoverageConfig
from ibllm_metrics.coverage import CoverageMetric, compare, expected_coverage, radii

from ibllm_core.interfaces.context import Context

Floats = npt.NDArray[np.float64]
FIGURES = ("precision", "recall", "density", "coverage")


def on_a_line(*places: float) -> Floats:
    return np.array(places, dtype=np.float64)[:, None]


def test_five_points_on_a_line() -> None:
    """With k = 1 the balls of 0, 1, 3, 7 have radii 1, 1, 2, 4 and those of 0.5, 2.5, 20 radii 2, 2, 17.5."""
    real, generated = on_a_line(0, 1, 3, 7), on_a_line(0.5, 2.5, 20)
    assert radii(real, 1).tolist() == [1, 1, 2, 4]
    assert radii(generated, 1).tolist() == [2, 2, 17.5]
    # 0.5 is in the balls of 0 and 1, 2.5 in that of 3, 20 in none; the ball of 20 reaches 3 and 7.
    assert compare(real, generated, 1) == {"precision": 2 / 3, "recall": 1, "density": 1, "coverage": 3 / 4}


def by_loops(real: Floats, generated: Floats, k: int) -> dict[str, float]:
    def radius(points: Floats, i: int) -> float:
        return float(sorted(np.linalg.norm(points[i] - points[j]) for j in range(len(points)) if j != i)[k - 1])

    def near(centre: Floats, points: Floats, i: int) -> bool:
        return float(np.linalg.norm(centre - points[i])) <= radius(points, i)

    n, m = len(real), len(generated)
    held = [[near(generated[j], real, i) for i in range(n)] for j in range(m)]
    return {
        "precision": sum(any(row) for row in held) / m,
        "recall": sum(any(near(real[i], generated, j) for j in range(m)) for i in range(n)) / n,
        "density": sum(map(sum, held)) / (k * m),
        "coverage": sum(any(held[j][i] for j in range(m)) for i in range(n)) / n,
    }


@pytest.mark.parametrize("k", [1, 3])
def test_the_same_by_loops(k: int) -> None:
    rng = np.random.default_rng(k)
    real, generated = rng.normal(size=(17, 3)), 0.7 * rng.normal(size=(13, 3)) + 0.5
    found = compare(real, generated, k)
    assert found == pytest.approx(by_loops(real, generated, k))
    assert min(found.values()) > 0


def test_the_data_s_own_images_reach_what_is_expected() -> None:
    """Density 1, and the coverage that `expected_coverage` says, whatever the distribution; 1 − 2⁻ᵏ for many images."""
    rng, k = np.random.default_rng(0), 3
    found = [compare(rng.normal(size=(40, 2)) ** 3, rng.normal(size=(40, 2)) ** 3, k) for _ in range(300)]
    for name, expected in (("density", 1.0), ("coverage", expected_coverage(40, 40, k))):
        values = [one[name] for one in found]
        assert abs(np.mean(values) - expected) < 4 * np.std(values) / np.sqrt(300)  # within four standard errors
    assert expected_coverage(10**6, 10**6, k) == pytest.approx(1 - 2.0**-k, abs=1e-5)
    assert expected_coverage(4, 2, 2) == pytest.approx(1 - 3 * 2 / (5 * 4))


def test_collapse_costs_coverage_and_recall_and_no_precision() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(size=(60, 2))
    found = compare(real, np.repeat(real[:3], 20, 0), 3)
    assert found["precision"] == 1
    assert found["recall"] == 3 / 60
    assert found["coverage"] < 0.4


def test_copies_of_images_that_come_often_are_near_them() -> None:
    real = np.repeat(on_a_line(0, 5), 4, 0)
    assert compare(real, on_a_line(0, 5), 2) == {"precision": 1, "recall": 1, "density": 2, "coverage": 1}
    assert compare(real, on_a_line(0.1, 5.1), 2) == {"precision": 0, "recall": 1, "density": 0, "coverage": 0}


class Drawn:
    split, batch = "test", 8

    def __init__(self, real: npt.NDArray[np.uint8], generated: npt.NDArray[np.uint8]) -> None:
        self.real, self.generated, self.hashes = real, generated, {"images": "f00d"}

    def __len__(self) -> int:
        return len(self.real)

    def once(self, name: str, compute: Any) -> Any:
        return compute()


def test_the_metric_names_its_feature_space() -> None:
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    same: Any = Drawn(images, images)
    for extractor in ("pixels", "random"):
        metric = CoverageMetric(CoverageConfig(extractor=extractor, size=4, width=8, neighbours=3), Context())
        assert list(metric.evaluate(same)) == [f"{name}_{extractor}" for name in FIGURES]
        assert metric.evaluate(same)[f"coverage_{extractor}"] == 1
        record = metric.record(same)
        assert (record["extractor"], record["features"], record["neighbours"]) == (extractor, 48 if extractor == "pixels" else 8, 3)
        assert record["coverage by the data's own"] == pytest.approx(expected_coverage(12, 12, 3))
        assert not [key for key in record if key.startswith("caution")]
        for figure in metric.config.figures():
            assert f"Compared by {metric.config.features}" in figure.meaning


def test_few_items_have_few_neighbours_which_is_said_of_every_figure() -> None:
    images = np.random.default_rng(3).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    few: Any = Drawn(images, images)
    metric = CoverageMetric(CoverageConfig(), Context())
    assert metric.evaluate(few)["precision_random"] == 1
    record = metric.record(few)
    assert record["neighbours"] == 2
    assert [key for key in record if key.startswith("caution ")] == [f"caution {name}_random" for name in FIGURES]
    assert "3 have no 5 neighbours" in str(record["caution coverage_random"])
    one: Any = Drawn(images[:1], images[:1])
    with pytest.raises(ValueError, match="at least 2 items"):
        metric.evaluate(one)
