"""The likelihood that drawing decoders share, against torch's distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Laplace, Normal

from ibllm.blocks.likelihood import focus_weights, generalised_normal


@pytest.mark.parametrize(("exponent", "family"), [(2.0, Normal), (1.0, Laplace)])
@pytest.mark.parametrize("scale", [0.1, 0.7])
def test_differences_are_those_of_the_distribution(exponent: float, family: type[Normal], scale: float) -> None:
    """Up to a constant: what counts is how much likelier one drawing makes the image than another."""
    random = torch.Generator().manual_seed(0)
    y, one, other = (torch.rand(2, 3, 5, 4, generator=random) * 2 - 1 for _ in range(3))
    found = generalised_normal(y, one, scale, exponent) - generalised_normal(y, other, scale, exponent)
    expected = (family(other, scale).log_prob(y) - family(one, scale).log_prob(y)).flatten(1).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_focus_weighs_what_differs_from_the_ground() -> None:
    y = torch.full((1, 3, 20, 20), -0.5)
    y[:, 1, 10, 10] = 0.5
    weights = focus_weights(y, 4.0)
    assert float(weights.mean()) == pytest.approx(1)
    high = weights > weights.min()
    assert high.sum() == 7 * 7
    assert bool(high[0, 0, 7:14, 7:14].all())
    assert float(weights.max() / weights.min()) == pytest.approx(5)
