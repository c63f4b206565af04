"""The decoder with a posterior over its noise. Shapes: b batch, n places, k numbers of a place, m width of the latent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ibllm_vae.config import FlowVAEConfig
from ibllm_vae.image_decoder import FlowVAE, divergence
from ibllm_vae.places import EXTENT, displacement_features, grid_points, normal_by_place
from ibllm_vae.posterior import Seen
from torch import Tensor

from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng

LATENT = 16
KINDS = ("words", "slots")


def decoder(size: int = 16, **options: object) -> FlowVAE:
    torch.manual_seed(0)
    small = {
        "patch": 4,
        "depth": 1,
        "heads": 2,
        "channels": 8,
        "posterior_channels": (8, 16),
        "prior_depth": 1,
        "slot_depth": 1,
        "slots": 3,
    }
    return FlowVAE(FlowVAEConfig(**{**small, **options}), Context(latent=LATENT, width=16, image_shape=(3, size, size)))  # type: ignore[arg-type]


def latent(b: int, n: int = 3) -> Latent:
    torch.manual_seed(1)
    tokens = torch.randn(b, n, LATENT)
    return Latent(tokens, torch.ones(b, n, dtype=torch.bool), tokens.mean(1))


def rng(b: int, *words: str | int) -> Rng:
    return Rng((0, *words), np.arange(b))


def images(b: int, size: int = 16) -> Tensor:
    torch.manual_seed(2)
    return torch.rand(b, 3, size, size) * 2 - 1


def test_divergence_is_that_of_two_normal_distributions() -> None:
    torch.manual_seed(0)
    mean, log_variance, mask = torch.randn(4, 3, 2), torch.randn(4, 3, 2), torch.rand(4, 3) > 0.3
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    wanted = (torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(-1) * mask).sum(1)
    torch.testing.assert_close(divergence(Seen(mean, log_variance, mean), mask), wanted)


def test_places_are_drawn_standard_normal_whatever_follows_them() -> None:
    long, short = normal_by_place(rng(4000), 5, 2), normal_by_place(rng(4000), 2, 2)
    assert torch.equal(long[:, :2], short)
    torch.testing.assert_close(long.mean(0), torch.zeros(5, 2), atol=0.07, rtol=0)
    torch.testing.assert_close(long.flatten(1).T.cov(), torch.eye(10), atol=0.1, rtol=0)


def test_the_grid_covers_the_image_and_displacements_are_told_apart() -> None:
    points = grid_points(2, 4)
    assert points.tolist()[:4] == [[-1.5, -1.0], [-0.5, -1.0], [0.5, -1.0], [1.5, -1.0]]
    assert float(grid_points(16, 16).abs().max()) == EXTENT * 15 / 16
    several = displacement_features(grid_points(8, 8))
    assert float(torch.cdist(several, several).fill_diagonal_(9).min()) > 0.3


@pytest.mark.parametrize("places", KINDS)
def test_padding_changes_nothing(places: str) -> None:
    part, z, y = decoder(places=places, extra=1).eval(), latent(3), images(3)
    tokens = torch.cat([z.tokens, torch.full((3, 2, LATENT), 7.0)], 1)
    padded = Latent(tokens, torch.cat([z.mask, torch.zeros(3, 2, dtype=torch.bool)], 1), z.pooled)
    with torch.no_grad():
        torch.testing.assert_close(part.sample(padded, rng(3)), part.sample(z, rng(3)), atol=1e-5, rtol=0)
        torch.testing.assert_close(part.nll(y, padded, rng(3)), part.nll(y, z, rng(3)), atol=1e-2, rtol=1e-5)
        part.train()
        torch.testing.assert_close(part.nll(y, padded, rng(3)), part.nll(y, z, rng(3)), atol=1e-2, rtol=1e-5)


class Exact(torch.nn.Module):
    """In the place of a prior's layers: the velocity of a path to u ~ N(mean, deviation²)."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def velocity(self, u: Tensor, time: Tensor, c: Latent, z: Latent) -> Tensor:
        t = time[:, None, None]
        variance = (1 - t) ** 2 + (t * self.deviation) ** 2
        return self.mean + (t * self.deviation**2 - (1 - t)) / variance * (u - t * self.mean)


def test_the_prior_with_the_exact_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws have the distribution; the bound of −log p is near the entropy from above; the objective is what no network can do better than."""
    mean, deviation, b = 0.5, 0.4, 20_000
    prior, z = decoder(steps=16).prior, latent(1, 2)
    z = Latent(z.tokens.expand(b, -1, -1), z.mask.expand(b, -1), z.pooled.expand(b, -1))
    monkeypatch.setattr(prior, "velocity", Exact(mean, deviation).velocity)
    drawn = prior.sample(z, z, rng(b))
    torch.testing.assert_close(drawn.mean(0), torch.full((2, 2), mean), atol=0.015, rtol=0)
    torch.testing.assert_close(drawn.flatten(1).T.cov(), deviation**2 * torch.eye(4), atol=0.01, rtol=0)
    u = mean + deviation * normal_by_place(rng(b, "u"), 2, 2)
    entropy = 4 * math.log(2 * math.pi * math.e * deviation**2) / 2
    bound = prior.bound(u, z, z, rng(b))
    error = float(bound.std()) / b**0.5
    assert entropy - 4 * error < float(bound.mean()) < entropy + 0.2 + 4 * error
    best = float(prior.objective(u, z, z, rng(b)).mean())
    monkeypatch.setattr(prior, "velocity", Exact(mean + 0.2, deviation).velocity)
    assert float(prior.objective(u, z, z, rng(b)).mean()) == pytest.approx(best + 2 * 0.2**2 * _mean_squared_slope(deviation), rel=0.1)
    assert float(prior.bound(u, z, z, rng(b)).mean()) > entropy + 0.2


def _mean_squared_slope(deviation: float) -> float:
    """E_t[(dv/dmean)²] over logit-normal times, by the midpoint rule: what an error of the mean costs a number."""
    p = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    t = torch.sigmoid(torch.special.ndtri(p))
    slope = 1 - t * (t * deviation**2 - (1 - t)) / ((1 - t) ** 2 + (t * deviation) ** 2)
    return float(slope.square().mean())


@pytest.mark.parametrize("places", KINDS)
def test_a_stage_of_the_prior_alone_reaches_nothing_else(places: str) -> None:
    part, z, y = decoder(places=places).eval().requires_grad_(False), latent(4), images(4)
    part.prior.train().requires_grad_(True)
    part.nll(y, z, rng(4)).sum().backward()
    reached = {name.split(".")[0] for name, p in part.named_parameters() if p.grad is not None}
    assert reached == {"prior"}


def test_the_priors_objective_leaves_the_posterior_alone() -> None:
    part, z, y = decoder(kl=0.0, grounding=0.0).train(), latent(4), images(4)
    part.likelihood = lambda y, drawn: drawn.flatten(1).sum(1) * 0  # type: ignore[method-assign]
    part.nll(y, z, rng(4)).sum().backward()
    assert all(float(p.grad.abs().max()) == 0 for p in part.posterior.parameters() if p.grad is not None)
    assert any(float(p.grad.abs().max()) > 0 for p in part.prior.parameters() if p.grad is not None)


def test_a_drawing_moves_with_its_places() -> None:
    """Without the patches' own queries a whole patch further is the same drawing a patch further."""
    part, z = decoder(joins=0), latent(1, 1)
    with torch.no_grad():
        for stream in (part.drawing.form, part.drawing.shade):
            stream.queries.copy_(stream.queries[:1].expand_as(stream.queries))
        part.drawing.mixture.weight[..., [0, 0, 0, 1, 2, 1, 2, 2], [0, 1, 2, 0, 0, 2, 1, 2]] = (
            0  # the neighbours of the image's edge are zeros
        )
        patch = 2 * EXTENT / 4
        one, other = (part.draw(z, torch.tensor([[[x, -0.3]]])) for x in (-0.2, -0.2 + patch))
    torch.testing.assert_close(other[..., 4:], one[..., :-4], atol=1e-5, rtol=0)


def test_temperature_is_the_size_of_the_noise_that_draws_places() -> None:
    z = latent(1)
    z = Latent(*(t.expand(64, *t.shape[1:]) for t in (z.tokens, z.mask, z.pooled)))
    spread = [float(decoder(temperature=t).eval().noise(z, rng(64)).std(0).mean()) for t in (0.0, 0.5, 1.0)]
    assert spread[0] == 0.0
    assert 0 < spread[1] < 0.7 * spread[2]


def test_the_posterior_is_no_more_exact_than_it_may_be() -> None:
    part, z, y = decoder(least_deviation=0.05).eval(), latent(4), images(4)
    with torch.no_grad():
        part.posterior.out[3].bias[2:] = -50.0  # type: ignore[index]
        deviation = (0.5 * part.posterior(y, z).log_variance).exp()
    torch.testing.assert_close(deviation, torch.full_like(deviation, 0.05 * 2 * EXTENT))


def squares(b: int, step: int) -> Tensor:
    """(b 3 16 16): a white square of 4 × 4 pixels on black, anywhere."""
    corner = rng(b, "where", step).integers(13, 2)
    at = torch.arange(16)
    inside = [(at >= corner[:, i, None]) & (at < corner[:, i, None] + 4) for i in (0, 1)]
    return (inside[1][:, :, None] & inside[0][:, None]).float()[:, None].expand(-1, 3, -1, -1) * 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize("places", KINDS)
def test_it_commits_where_the_text_leaves_the_place_open(places: str) -> None:
    """One caption, a square that may be anywhere: drawings show a square, all over the image; the best guess without commitment is grey."""
    part, b = decoder(places=places, slots=1, depth=2, focus=4.0), 32
    z = latent(1, 1)
    z = Latent(*(t.expand(b, *t.shape[1:]) for t in (z.tokens, z.mask, z.pooled)))
    optimizer = torch.optim.Adam(part.parameters(), 4e-3, betas=(0.9, 0.99))
    for step in range(500):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / 500)
        optimizer.zero_grad()
        part.nll(squares(b, step), z, rng(b, "train", step)).mean().backward()
        optimizer.step()
    part.eval()
    with torch.no_grad():
        drawn = part.sample(z, rng(b, "draw")).mean(1)
    every = torch.stack([squares(1, 0)[0, 0] * 0 - 1] * 169)
    for i in range(169):
        every[i, i // 13 : i // 13 + 4, i % 13 : i % 13 + 4] = 1
    distance = (drawn[:, None] - every).square().mean((2, 3))
    grey = (every - every.mean(0)).square().mean()
    assert float(distance.amin(1).median()) < 0.3 * float(grey)
    at = distance.argmin(1)
    spread = torch.stack([at // 13, at % 13]).float().std(1)
    assert bool((spread > 0.6 * 13 / 12**0.5).all())
