"""The rectified flow."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_flow.config import FlowConfig
from ibllm_flow.image_decoder import FlowDecoder
from torch import Tensor, nn

from ibllm.plugin import MIN_TIME_LEFT, integrate
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng

LATENT = 12


def decoder(shape: tuple[int, int, int] = (3, 16, 16), **options: object) -> FlowDecoder:
    torch.manual_seed(0)
    small = {"width": 16, "depth": 1, "heads": 2, "patch": 8, "channels": (), "times_mean": 0.0, "noise_scale": 1.0}
    return FlowDecoder(FlowConfig(**{**small, **options}), Context(latent=LATENT, image_shape=shape))


def latent(b: int, value: float | Tensor = 1.0, n: int = 3) -> Latent:
    pooled = torch.ones(b, LATENT) * value
    return Latent(pooled[:, None].repeat(1, n, 1), torch.ones(b, n, dtype=torch.bool), pooled)


def rng(b: int, word: str = "test") -> Rng:
    return Rng((0, word), np.arange(b))


class Stub(nn.Module):
    """In the network's place."""

    def __init__(self, said) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.said = said

    def forward(self, x: Tensor, t: Tensor, z: Latent) -> Tensor:
        return self.said(x, t, z)


# Two Gaussians in the plane, equally likely.
MEANS, SIGMA = torch.tensor([[0.6, 0.3], [-0.5, 0.1]]), 0.15


def moments() -> tuple[Tensor, Tensor]:
    centre = MEANS.mean(0)
    spread = (MEANS - centre).T @ (MEANS - centre) / 2 + SIGMA**2 * torch.eye(2)
    return centre, spread


def mixture_velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[y − ε | x_t] in closed form: each component's is linear in x, weighted by how likely x is under it."""
    t = t[:, None]
    variance = (1 - t) ** 2 + (t * SIGMA) ** 2
    off = x[:, None] - t[..., None] * MEANS
    weights = (-off.square().sum(-1) / (2 * variance)).softmax(1)
    each = MEANS + (t * SIGMA**2 - (1 - t))[..., None] / variance[..., None] * off
    return (weights[..., None] * each).sum(1)


@pytest.mark.parametrize(("solver", "steps"), [("euler", 100), ("heun", 30)])
def test_the_exact_velocity_gives_the_mixture(solver: str, steps: int) -> None:
    drawn = integrate(mixture_velocity, rng(20_000).normal(2), steps, solver)
    centre, spread = moments()
    torch.testing.assert_close(drawn.mean(0), centre, atol=0.015, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), spread, atol=0.01, rtol=0)
    # Not only the moments: each draw lies by one of the two means.
    nearest = (drawn[:, None] - MEANS).square().sum(-1).amin(1)
    assert float(nearest.mean()) == pytest.approx(2 * SIGMA**2, rel=0.1)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_the_solvers(solver: str, order: int) -> None:
    """dx/dt = x·cos(3t) has the solution x₀·exp(sin(3t) / 3)."""
    start = torch.ones(1, 1, dtype=torch.float64)

    def error(steps: int) -> float:
        end = integrate(lambda x, t: x * torch.cos(3 * t.double())[:, None], start, steps, solver)
        return abs(float(end) - math.exp(math.sin(3) / 3))

    assert error(20) / error(40) == pytest.approx(2**order, rel=0.2)


@pytest.mark.slow
def test_a_trained_flow_gives_the_mixture_that_the_latent_names() -> None:
    options = {"patch": 1, "width": 32, "depth": 2, "predict": "velocity", "times": "uniform", "null": 0.0}
    part = decoder((2, 1, 1), **options, steps=20, solver="heun")
    lr, steps, b = 1e-2, 600, 128
    optimizer = torch.optim.Adam(part.parameters(), lr, betas=(0.9, 0.99))
    flip = torch.tensor([1.0, -1.0])  # the other latent's mixture is mirrored
    for step in range(steps):
        draws = Rng((0, "train", step), np.arange(b))
        sign = flip[draws.integers(2)]
        y = (MEANS[draws.integers(2)] + SIGMA * draws.normal(2)) * sign[:, None]
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 20) * (1 - step / steps)
        optimizer.zero_grad()
        part.nll(y[..., None, None], latent(b, sign[:, None], n=1), draws.fold("nll")).mean().backward()
        optimizer.step()
    centre, spread = moments()
    with torch.no_grad():
        for sign in flip:
            drawn = part.sample(latent(4000, sign, n=1), rng(4000)).flatten(1)
            torch.testing.assert_close(drawn.mean(0), sign * centre, atol=0.1, rtol=0)
            torch.testing.assert_close(drawn.T.cov(), spread, atol=0.04, rtol=0)
            # A draw lies by one of the two means, as in the mixture itself, where this is 2·σ².
            nearest = (drawn[:, None] - sign * MEANS).square().sum(-1).amin(1)
            assert float(nearest.mean()) < 1.6 * 2 * SIGMA**2


@pytest.mark.parametrize("predict", ["image", "velocity"])
def test_nll_of_a_gaussian_in_closed_form(predict: str) -> None:
    """y ~ N(0, s²): the best velocity is linear in x, and leaves E_t[s² / ((1 − t)² + t²s²)] a dimension."""
    s, b = 0.4, 20_000
    part = decoder((1, 1, 1), patch=1, predict=predict, times="uniform")

    def best(x: Tensor, t: Tensor, z: Latent) -> Tensor:
        t = t[:, None, None, None]
        variance = (1 - t) ** 2 + (t * s) ** 2
        return t * s**2 / variance * x if predict == "image" else (t * s**2 - (1 - t)) / variance * x

    part.network = Stub(best)  # type: ignore[assignment]
    y = s * rng(b, "data").normal(1, 1, 1)
    nll = part.nll(y, latent(b), rng(b))
    t = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    left = s**2 / ((1 - t) ** 2 + (t * s) ** 2)
    if predict == "image":  # near the end it is divided by NEAREST instead of 1 − t
        left = left * ((1 - t) / (1 - t).clamp(min=MIN_TIME_LEFT)) ** 2
    error = float(nll.std()) / b**0.5
    assert float(nll.mean()) == pytest.approx(float(left.mean()), abs=4 * error)
    assert error < 0.02 * float(left.mean())
    if predict == "velocity":
        x, t = torch.randn(5, 1, 1, 1), torch.rand(5)
        torch.testing.assert_close(part.velocity(x, t, latent(5)), best(x, t, latent(5)))


@pytest.mark.parametrize("predict", ["image", "velocity"])
@pytest.mark.parametrize("size", [1.0, 2.0])
def test_nll_in_evaluation_bounds_the_entropy_of_a_gaussian(predict: str, size: float) -> None:
    """y ~ N(0, s²): −log p is log(2πe·s²) / 2 on average; the best network's bound comes near it from above, a worse one's does not."""
    s, b = 0.4, 40_000
    part = decoder((1, 1, 1), patch=1, predict=predict, noise_scale=size, null=0.5).eval()

    def image(x: Tensor, t: Tensor) -> Tensor:
        return t * s**2 / ((size * (1 - t)) ** 2 + (t * s) ** 2) * x

    def network(better: float) -> Stub:
        def said(x: Tensor, t: Tensor, z: Latent) -> Tensor:
            at = t[:, None, None, None]
            drawn = better * image(x, at)
            return drawn if predict == "image" else (drawn - x) / (1 - at)

        return Stub(said)

    y = s * rng(b, "data").normal(1, 1, 1)
    entropy = math.log(2 * math.pi * math.e * s**2) / 2
    part.network = network(1.0)  # type: ignore[assignment]
    nll = part.nll(y, latent(b), rng(b))
    error = float(nll.std()) / b**0.5
    assert error < 0.05
    assert entropy - 4 * error < float(nll.mean()) < entropy + 0.05 + 4 * error
    part.network = network(0.8)  # type: ignore[assignment]
    assert float(part.nll(y, latent(b), rng(b)).mean()) > entropy + 0.2


def test_nll_in_evaluation_always_sees_the_text() -> None:
    part = decoder(null=0.9).eval()
    y = torch.rand(16, 3, 16, 16) * 2 - 1
    assert bool((part.nll(y, latent(16, 1.0), rng(16)) != part.nll(y, latent(16, -1.0), rng(16))).all())


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8)])
def test_nll_is_summed_over_the_image_and_unbiased(shape: tuple[int, int, int]) -> None:
    """A network that says no velocity is off by y − ε: ‖y‖² + c·h·w on average."""
    part = decoder(shape, predict="velocity")
    part.network = Stub(lambda x, t, z: torch.zeros_like(x))  # type: ignore[assignment]
    y = torch.linspace(-1, 1, math.prod(shape)).view(1, *shape).expand(400, -1, -1, -1)
    nll = part.nll(y, latent(400), rng(400))
    wanted = float(y[0].square().sum()) + math.prod(shape)
    assert float(nll.mean()) == pytest.approx(wanted, abs=4 * float(nll.std()) / 20)


def test_both_predictions_say_the_same_nll() -> None:
    image = decoder(predict="image", times="uniform")
    velocity = decoder(predict="velocity", times="uniform")
    velocity.network = Stub(image.velocity)  # type: ignore[assignment]
    y, draws = torch.rand(64, 3, 16, 16) * 2 - 1, rng(64)
    early = rng(64).fold("times").uniform() < 1 - MIN_TIME_LEFT
    assert 40 < int(early.sum()) < 64
    torch.testing.assert_close(image.nll(y, latent(64), draws)[early], velocity.nll(y, latent(64), draws)[early], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("times", "quantiles"), [("uniform", (0.1, 0.5, 0.9)), ("logit_normal", (0.2173, 0.5, 0.7827))])
def test_times_are_distributed_as_said(times: str, quantiles: tuple[float, ...]) -> None:
    """The deciles of a standard normal are ±1.2816, and sigmoid(1.2816) = 0.7827."""
    seen: list[Tensor] = []

    def said(x: Tensor, t: Tensor, z: Latent) -> Tensor:
        seen.append(t)
        return x

    part = decoder((1, 1, 1), patch=1, times=times)
    part.network = Stub(said)  # type: ignore[assignment]
    part.nll(torch.zeros(20_000, 1, 1, 1), latent(20_000), rng(20_000))
    torch.testing.assert_close(torch.quantile(seen[0], torch.tensor([0.1, 0.5, 0.9])), torch.tensor(quantiles), atol=0.015, rtol=0)


def test_the_null_condition_is_dropped_in_at_its_rate_and_padding_with_it() -> None:
    seen: list[Latent] = []

    def said(x: Tensor, t: Tensor, z: Latent) -> Tensor:
        seen.append(z)
        return x

    part = decoder((1, 1, 1), patch=1, null=0.3)
    part.network = Stub(said)  # type: ignore[assignment]
    part.nll(torch.zeros(2000, 1, 1, 1), latent(2000), rng(2000))
    dropped = seen[0].pooled[:, 0] == 0
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.04)
    assert not seen[0].tokens[dropped].any() and bool((seen[0].tokens[~dropped] == 1).all())
    assert seen[0].mask.sum(1)[dropped].unique().tolist() == [1] and bool(seen[0].mask[~dropped].all())
    decoder_without = decoder((1, 1, 1), patch=1, null=0.0)
    decoder_without.network = Stub(said)  # type: ignore[assignment]
    decoder_without.nll(torch.zeros(50, 1, 1, 1), latent(50), rng(50))
    assert bool((seen[1].pooled == 1).all())


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance(scale: float) -> None:
    """A velocity that is 0.1 under the latent and nothing under the null condition carries every number by 0.1·s."""
    part = decoder(guidance=scale, predict="velocity", noise_scale=0.01)
    part.network = Stub(lambda x, t, z: 0.1 * z.pooled[:, :1, None, None].expand_as(x))  # type: ignore[assignment]
    start = 0.01 * rng(4).fold("noise").normal(3, 16, 16)
    torch.testing.assert_close(part.sample(latent(4), rng(4)), start + 0.1 * scale)


def test_guidance_of_one_is_none() -> None:
    part, other = decoder(guidance=1.0), decoder(guidance=1.0 + 1e-6)
    torch.testing.assert_close(part.sample(latent(2), rng(2)), other.sample(latent(2), rng(2)), atol=1e-4, rtol=0)


def test_the_last_step_ends_on_the_predicted_image() -> None:
    """With predict = "image" and Euler, whatever the steps, the network's last word is what is drawn."""
    part = decoder(steps=5)
    part.network = Stub(lambda x, t, z: torch.where(t[:, None, None, None] > 0.75, 0.5, -0.3).expand_as(x))  # type: ignore[assignment]
    torch.testing.assert_close(part.sample(latent(2), rng(2)), torch.full((2, 3, 16, 16), 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"patch": 4, "width": 32}, {"patch": 2, "width": 32, "channels": (8, 16)}])
def test_it_draws_what_the_latent_says(options: dict[str, Any]) -> None:
    """Two latents, two images: after a short training each is drawn on command, and guidance keeps to it."""
    part = decoder((1, 16, 16), **options)
    images = torch.full((2, 1, 16, 16), -0.8)
    images[0, :, :8], images[1, :, :, 8:] = 0.9, 0.9
    optimizer = torch.optim.Adam(part.parameters(), 3e-3)
    # The rate falls, or where training happens to stand at the last step would depend on how a CPU rounds.
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=500)
    for step in range(500):
        draws = Rng((0, "train", step), np.arange(16))
        which = draws.integers(2)
        z = latent(16, (2.0 * which - 1)[:, None])
        optimizer.zero_grad()
        part.nll(images[which], z, draws.fold("nll")).mean().backward()
        optimizer.step()
        schedule.step()
    z = latent(16, torch.tensor([-1.0, 1.0]).repeat(8)[:, None])
    for guidance in (1.0, 2.0):
        part.config = attrs.evolve(part.config, guidance=guidance)
        with torch.no_grad():
            error = (part.sample(z, rng(16)) - images.repeat(8, 1, 1, 1)).abs().mean((1, 2, 3))
        assert float(error.mean()) < 0.1


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="heads = 5: expected a divisor of width = 16"):
        decoder(heads=5)
    with pytest.raises(ValueError, match="heads = 5: expected a divisor of width = 32"):
        FlowDecoder(FlowConfig(heads=5), Context(width=32, latent=LATENT))
    with pytest.raises(ValueError, match="patch = 5 with 0 stages: expected 5 to divide the image's height 16 and width 16"):
        decoder(patch=5)
    with pytest.raises(ValueError, match="patch = 2 with 2 stages: expected 8 to divide the image's height 12 and width 16"):
        decoder((3, 12, 16), patch=2, channels=(8, 8))
    with pytest.raises(ValueError, match="expected multiples of 8, the groups of the norms, and 12 is none"):
        FlowConfig(channels=(8, 12))
    with pytest.raises(ValueError, match="guidance = 3: expected 1 where null = 0"):
        FlowConfig(guidance=3.0, null=0.0)


def test_drawn_together_without_sharing_is_drawn_singly() -> None:
    flow, z, noise = decoder(guidance=2.0), latent(5), rng(5).fold("noise").normal(3, 16, 16)
    singly = flow.sample(z, rng(5))
    torch.testing.assert_close(flow.sample_together(z, noise, lambda velocities: velocities, batch=2), singly, rtol=0, atol=1e-6)


def test_what_velocities_share_stays_the_same() -> None:
    """Two images whose left halves begin alike, and whose velocities are averaged there, end alike there and nowhere else."""
    flow, z = decoder(), latent(2, torch.tensor([[1.0], [-3.0]]))
    noise = rng(2).normal(3, 16, 16)
    noise[1, :, :, :8] = noise[0, :, :, :8]

    def share(velocities: Tensor) -> Tensor:
        return torch.cat([velocities[..., :8].mean(0, keepdim=True).expand(2, -1, -1, -1), velocities[..., 8:]], -1)

    first, second = flow.sample_together(z, noise, share)
    torch.testing.assert_close(first[..., :8], second[..., :8])
    assert not torch.allclose(first[..., 8:], second[..., 8:], atol=1e-2)
