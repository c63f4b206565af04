"""Directions of two sets of vectors that go together. Torch-free. Shapes: b pairs, d, e widths, k canonical directions."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class CanonicalCorrelations:
    """A linear canonical correlation analysis of x (b d) and y (b e).

    Attributes:
        x_mean, y_mean: (d), (e).
        x_map, y_map: (d k), (e k) onto directions of unit variance, those of x and y paired.
        correlations: (k) of the pairs, falling.
    """

    x_mean: Floats
    y_mean: Floats
    x_map: Floats
    y_map: Floats
    correlations: Floats

    def x_points(self, x: Floats) -> Floats:
        """x (… d) → (… k) in the canonical directions, each weighted by its correlation: noise pairs count for nothing."""
        return np.asarray((x - self.x_mean) @ self.x_map * np.sqrt(self.correlations))

    def y_points(self, y: Floats) -> Floats:
        """y (… e) → (… k), the same."""
        return np.asarray((y - self.y_mean) @ self.y_map * np.sqrt(self.correlations))

    def cosines(self, x: Floats, y: Floats) -> Floats:
        """x (… d), y (… e) → (…) cosine of their points."""
        u, v = self.x_points(x), self.y_points(y)
        lengths: Floats = np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1)
        return (u * v).sum(-1) / np.maximum(lengths, np.finfo(np.float64).tiny)


def fit_canonical(x: Floats, y: Floats, ridge: float) -> CanonicalCorrelations:
    """Hotelling 1936, with `ridge` × mean variance added to both covariances (Vinod 1976).

    With Σ_xx = L_x L_xᵀ and Σ_yy = L_y L_yᵀ, the singular vectors of L_x⁻¹ Σ_xy L_y⁻ᵀ are the directions, its singular values the correlations.
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    a, b = x - x_mean, y - y_mean

    def root(part: Floats) -> Floats:
        covariance = part.T @ part / len(part)
        level = ridge * max(np.trace(covariance) / len(covariance), np.finfo(np.float64).tiny)
        return np.linalg.cholesky(covariance + level * np.eye(len(covariance)))

    x_root, y_root = root(a), root(b)
    between = np.linalg.solve(y_root, np.linalg.solve(x_root, a.T @ b / len(a)).T).T
    left, correlations, right = np.linalg.svd(between, full_matrices=False)
    return CanonicalCorrelations(x_mean, y_mean, np.linalg.solve(x_root.T, left), np.linalg.solve(y_root.T, right.T), correlations)
