"""Attacks: within a ball around x, what is worst for a model.

An attack asks an objective: x (b …) → how bad each item is (b), more being worse for the model. It knows no model, so it works on whatever has an
objective (`ibllm_robust.objectives`). An item's result depends on itself, its number (`Rng`) and the objective alone, never on the rest of the batch.
No step is decided on the host, so that attacks are played on the meta device and captured with an iteration.

Shapes: b batch, … an item's own axes: c h w of an image, t e of a text's embeddings.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ibllm.plugin import Batch, Context, Cycle, Perturbation, Rng, UserError
from ibllm_robust.config import APGDConfig, AttackConfig, FGSMConfig, NoiseConfig, PGDConfig, SquareConfig, UniversalConfig
from ibllm_robust.objectives import Objective, aimed, rows_of, still

#: A part of ε, and of the largest number, that rounding may take: what is inside the smaller ball is inside the other whatever is rounded.
_ROUNDING = 2.0**-22


@attrs.frozen
class Ball:
    """All that is within ε of x (b …) and within [low, high].

    Attributes:
        radius: (b 1 …) ε in units of x, less what rounding may add.
        free: (b …) or what becomes that beside x, bool: which numbers may change; None for all.
    """

    x: Tensor
    radius: Tensor
    norm: str
    low: float
    high: float
    free: Tensor | None = None

    @classmethod
    def around(cls, x: Tensor, epsilon: float | Tensor, norm: str, low: float, high: float, free: Tensor | None = None) -> Ball:
        """`epsilon` is a part of the range where there is one, and in units of x where there is none."""
        scale = high - low if math.isfinite(high - low) else 1.0
        radius = epsilon * scale * x.new_ones(len(x), *[1] * (x.dim() - 1))
        largest = _flat(x).abs().amax(1).reshape(radius.shape) + radius
        lost = _ROUNDING * largest * (math.sqrt(x[0].numel()) if norm == "l2" else 1.0)
        return cls(x, (radius * (1 - _ROUNDING) - lost).clamp(min=0), norm, low, high, free)

    def nearest(self, point: Tensor) -> Tensor:
        """The point of the ball and the range that is nearest to (b …); with l2 nearest of the ball first, then of the range."""
        change = self.within(point - self.x)
        if self.norm == "linf":
            change = torch.minimum(torch.maximum(change, -self.radius), self.radius)
        else:
            change = change * (self.radius / length(change).clamp(min=_tiny(change))).clamp(max=1)
        return (self.x + change).clamp(self.low, self.high)

    def within(self, change: Tensor) -> Tensor:
        """A change (b …) of what may change."""
        return change if self.free is None else torch.where(self.free, change, 0.0)

    def step(self, gradient: Tensor) -> Tensor:
        """The direction in which a linear function with this gradient (b …) grows most, of length 1 in the norm; 0 where there is no gradient."""
        gradient = self.within(gradient)
        return gradient.sign() if self.norm == "linf" else gradient / length(gradient).clamp(min=_tiny(gradient))

    def anywhere(self, rng: Rng) -> Tensor:
        """(b …) a point of the ball, uniformly, moved into the range. Places that are free have the same numbers whatever places (padding) follow them."""
        shape, kind = self.x.shape[1:], self.x.dtype
        first = rng.fold("first").uniform(*shape).to(kind)
        if self.norm == "linf":
            return self.nearest(self.x + self.radius * (2 * first - 1))
        # A direction of normal numbers, and a length so that equal volumes are equally likely.
        angle = 2 * math.pi * rng.fold("second").uniform(*shape).to(kind)
        direction = self.within((-2 * (-first).log1p()).sqrt() * angle.cos())
        count = _flat(self.within(torch.ones_like(self.x))).sum(1).clamp(min=1)
        part = (rng.fold("length").uniform().to(kind) ** (1 / count)).reshape(self.radius.shape)
        return self.nearest(self.x + direction / length(direction).clamp(min=_tiny(direction)) * self.radius * part)


def length(change: Tensor) -> Tensor:
    """(b …) → (b 1 …) Euclidean length of each item."""
    return _flat(change).norm(dim=1).reshape(len(change), *[1] * (change.dim() - 1))


def _flat(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny


def damage_and_gradient(objective: Objective, x: Tensor) -> tuple[Tensor, Tensor]:
    """(b) how bad x is, and the gradient (b …) of that. Raises `UserError` where there is none."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        damage = objective(at)
        if not damage.requires_grad:
            raise UserError(
                "what is attacked gives no gradient by what is perturbed: expected an attack that asks for none (square, noise)"
            )
        (gradient,) = torch.autograd.grad(damage.sum(), at)
    return damage.detach(), gradient


@attrs.define
class Worst:
    """The worst that was met: `x` (b …) and its damage (b)."""

    x: Tensor
    damage: Tensor

    def take(self, x: Tensor, damage: Tensor) -> Tensor:
        """Keeps what is worse; (b) where that is so."""
        worse = damage > self.damage
        self.x, self.damage = torch.where(_like(worse, x), x, self.x), torch.where(worse, damage, self.damage)
        return worse


def _like(flags: Tensor, x: Tensor) -> Tensor:
    """(b) → (b 1 …), to be used beside x (b …)."""
    return flags.reshape(len(flags), *[1] * (x.dim() - 1))


class Attack(Perturbation):
    """The base of all attacks. One that has no way of its own to `perturb` a stage's batch does it as the options say (`ibllm_robust.config.AttackConfig`)."""

    def __init__(self, config: Any, context: Context) -> None:
        self.config: Any = config

    @abstractmethod
    def search(self, objective: Objective, ball: Ball, rng: Rng) -> Tensor:
        """(b …) the worst of the ball that it finds, which is in the ball."""

    def perturb(
        self,
        objective: Objective,
        x: Tensor,
        rng: Rng,
        low: float = 0.0,
        high: float = 1.0,
        epsilon: float | Tensor | None = None,
        free: Tensor | None = None,
    ) -> Tensor:
        """x (b …) → x_adv (b …) within ε of it and within [low, high].

        Args:
            objective: x (b …) → how bad each item is (b); differentiable, unless the attack asks for no gradient. Of an item it depends on that item alone.
            x: within [low, high].
            rng: of the b items.
            low, high: the range; infinite where there is none (embeddings).
            epsilon: ε as a part of the range, or in units of x where that is infinite; by default the options'. A tensor is ().
            free: (b …), or what becomes that beside x: True where x may change; everywhere by default.

        Raises:
            UserError: the objective has no gradient, and the attack asks for one.
        """
        radius = self.config.epsilon if epsilon is None else epsilon
        return self.search(objective, Ball.around(x.detach(), radius, self.config.norm, low, high, free), rng).detach()

    def perturbed(self, cycle: Cycle) -> Batch:
        """The cycle's batch, with the share of it that the options say perturbed against what they say, its parts as they are in use."""
        config: AttackConfig = self.config
        rows = rows_of(cycle.batch.numbers, config.share)
        with still(cycle.model):
            aim = aimed(cycle, config.of, config.against, rows=rows, space=config.space)
            epsilon = cycle.at(lambda _: self.config.epsilon)
            rng = aim.rng.fold("attack")
            found = self.perturb(aim.objective, aim.x, rng, aim.low, aim.high, epsilon, aim.free) if len(rows) else aim.x
        return aim.written(found, config.replace)


class Noise(Attack):
    """Uniform in the ball."""

    config: NoiseConfig

    def search(self, objective: Objective, ball: Ball, rng: Rng) -> Tensor:
        return ball.anywhere(rng.fold("noise"))


class FGSM(Attack):
    """x + ε·sign ∇ (L∞), x + ε·∇/‖∇‖ (L2): the fast gradient sign method.

    Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples", section 4.
    """

    config: FGSMConfig

    def search(self, objective: Objective, ball: Ball, rng: Rng) -> Tensor:
        _, gradient = damage_and_gradient(objective, ball.x)
        return ball.nearest(ball.x + ball.radius * ball.step(gradient))


class PGD(Attack):
    """x ← P(x + α·step(∇)): projected gradient ascent (Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2.1).

    Each restart costs `steps` passes forward and back and one forward. Where nothing is worse than x, x is what is found.
    """

    config: PGDConfig

    def search(self, objective: Objective, ball: Ball, rng: Rng) -> Tensor:
        size, worst = (self.config.step_size or 2.5 / self.config.steps) * ball.radius, None
        for restart in range(self.config.restarts):
            clean = restart == 0 and not self.config.random_start
            x = ball.x if clean else ball.anywhere(rng.fold("start", restart))
            for _ in range(self.config.steps):
                damage, gradient = damage_and_gradient(objective, x)
                worst = _with(worst, x, damage)
                x = ball.nearest(x + size * ball.step(gradient))
            worst = _with(worst, x, _damage(objective, x))
        assert worst is not None
        return worst.x


class APGD(Attack):
    """Auto-PGD (Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", algorithm 1).

    Steps begin at 2ε and have a momentum of 1 − 0.75. At checkpoints, ever denser, an item's steps are halved, and it goes on from the worst that it met, where
    fewer than ρ of the steps since the last one made it worse, or where neither its step nor its worst has changed since then. Each restart costs `steps` + 1
    passes forward and back, as the authors' implementation.
    """

    config: APGDConfig
    _ALPHA = 0.75

    def search(self, objective: Objective, ball: Ball, rng: Rng) -> Tensor:
        worst = None
        for restart in range(self.config.restarts):
            found = self._ascend(objective, ball, rng.fold("start", restart))
            worst = _with(worst, found.x, found.damage)
        assert worst is not None
        return worst.x

    def _ascend(self, objective: Objective, ball: Ball, rng: Rng) -> Worst:
        before = x = ball.anywhere(rng)
        damage, gradient = damage_and_gradient(objective, x)
        worst, gradient_of_worst, looks = Worst(x, damage), gradient, checkpoints(self.config.steps)
        size = 2 * ball.radius
        grown, since = torch.zeros_like(damage), 0
        reduced, worst_before = torch.ones_like(damage, dtype=torch.bool), damage
        for step in range(self.config.steps):
            towards = ball.nearest(x + size * ball.step(gradient))
            momentum = self._ALPHA if step else 1.0
            new = ball.nearest(x + momentum * (towards - x) + (1 - momentum) * (x - before))
            before, last = x, damage
            x = new
            damage, gradient = damage_and_gradient(objective, x)
            grown, since = grown + (damage > last), since + 1
            worse = worst.take(x, damage)
            gradient_of_worst = torch.where(_like(worse, x), gradient, gradient_of_worst)
            if step + 1 in looks:
                stuck = (grown <= self.config.rho * since) | (~reduced & (worst.damage <= worst_before))
                size = torch.where(_like(stuck, x), size / 2, size)
                x, damage = torch.where(_like(stuck, x), worst.x, x), torch.where(stuck, worst.damage, damage)
                gradient = torch.where(_like(stuck, x), gradient_of_worst, gradient)
                grown, since, reduced, worst_before = torch.zeros_like(grown), 0, stuck, worst.damage
        return worst


def checkpoints(steps: int) -> set[int]:
    """The steps after which APGD looks back: ⌈p_j·steps⌉ with p_0 = 0, p_1 = 0.22, p_(j+1) = p_j + max(p_j − p_(j−1) − 0.03, 0.06)."""
    found, before, part = set(), 0.0, 0.22
    while (look := math.ceil(round(part * steps, 9))) < steps:
        found.add(look)
        before, part = part, part + max(part - before - 0.03, 0.06)
    return found


class Square(Attack):
    """Square attack, L∞ (Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via random search", algorithms 1 and 2).

    It begins with stripes, one sign for each column and channel. Then a square at a random place takes the sign of each channel anew, and stays where it
    makes things worse. The first squares cover `first` of the image, and half as much after each of the authors' places, which are for 10,000 queries and
    follow their number. What is no image is one: a text's embeddings have a row a word.
    """

    config: SquareConfig
    _HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

    def search(self, objective: Objective, ball: Ball, rng: Rng) -> Tensor:
        shape = ball.x.shape
        c, h, w = (1,) * (4 - len(shape)) + tuple(shape[1:])
        stripes = _signs(rng.fold("stripes"), c, 1, w).expand(-1, -1, h, -1).reshape(shape).to(ball.x.dtype)
        worst = Worst(ball.x, _damage(objective, ball.x))
        striped = ball.nearest(ball.x + ball.radius * stripes)
        worst.take(striped, _damage(objective, striped))
        rows, columns = (torch.arange(size, device=ball.x.device) for size in (h, w))
        free = torch.ones_like(ball.x[:, :1], dtype=torch.bool) if ball.free is None else ball.free
        height = (free.expand(shape).reshape(-1, c, h, w).any(3).any(1) * (rows + 1)).amax(1)  # of texts, without padding
        for query in range(2, self.config.queries):
            draw, side = rng.fold("square", query), self.side(query, height, w)
            place = draw.uniform(2)
            top = (place[:, 0] * ((height - side).clamp(min=0) + 1)).floor()
            left = (place[:, 1] * ((w - side).clamp(min=0) + 1)).floor()
            down = (rows >= top[:, None]) & (rows < (top + side)[:, None])
            across = (columns >= left[:, None]) & (columns < (left + side)[:, None])
            inside = (down[:, None, :, None] & across[:, None, None, :]).expand(-1, c, -1, -1).reshape(shape)
            signs = _signs(draw, c, 1, 1).to(ball.x.dtype).expand(-1, -1, h, w).reshape(shape)
            tried = torch.where(inside, ball.nearest(ball.x + ball.radius * signs), worst.x)
            worst.take(tried, _damage(objective, tried))
        return worst.x

    def side(self, query: int, height: Tensor, width: int) -> Tensor:
        """(b) a square's side in pixels at a query."""
        place = query / self.config.queries * 10_000
        part = self.config.first / 2 ** sum(place > halved for halved in self._HALVED)
        side = (part * height * width).sqrt().round().clamp(min=1)
        return torch.minimum(side, height.clamp(min=width))


def _signs(rng: Rng, *shape: int) -> Tensor:
    """(b *shape) −1 or 1."""
    return 2 * rng.integers(2, *shape) - 1


class Universal(Attack):
    """One δ for all items: δ ← P(δ + α·step(Σ ∇)) (Shafahi et al. 2020, "Universal Adversarial Training", algorithm 1, with the whole set for each step).

    The δ with the greatest sum of damages is kept.
    """

    config: UniversalConfig

    def search(self, objective: Objective, ball: Ball, rng: Rng) -> Tensor:
        return (ball.x + self._fit([(objective, ball)])).clamp(ball.low, ball.high)

    def fit(
        self, pieces: Sequence[tuple[Objective, Tensor]], low: float = 0.0, high: float = 1.0, epsilon: float | Tensor | None = None
    ) -> Tensor:
        """δ (…) for all items of a set that comes in pieces, however it is cut: each piece an objective and its x (b …). Add it, and stay in the range."""
        radius = self.config.epsilon if epsilon is None else epsilon
        return self._fit([(objective, Ball.around(x.detach(), radius, self.config.norm, low, high)) for objective, x in pieces])

    def _fit(self, pieces: Sequence[tuple[Objective, Ball]]) -> Tensor:
        radius = torch.cat([ball.radius for _, ball in pieces]).amin(0, keepdim=True)  # of the item whose numbers are the largest
        first = pieces[0][1]
        ball = Ball(torch.zeros_like(first.x[:1]), radius, first.norm, -math.inf, math.inf)
        size, change, worst = (self.config.step_size or 2.5 / self.config.steps) * radius, ball.x, None
        for step in range(self.config.steps + 1):
            found = [damage_and_gradient(objective, (of.x + change).clamp(of.low, of.high)) for objective, of in pieces]
            worst = _with(worst, change, torch.stack([damage.sum() for damage, _ in found]).sum()[None])
            if step < self.config.steps:
                gradient = torch.stack([gradient.sum(0) for _, gradient in found]).sum(0)[None]
                change = ball.nearest(change + size * ball.step(gradient))
        assert worst is not None
        return worst.x[0]

    def perturbed(self, cycle: Cycle) -> Batch:
        raise UserError(
            "universal changes all items of a set alike, but a stage's batch comes in shares: expected noise, fgsm, pgd, apgd or square"
        )


def _damage(objective: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return objective(x)


def _with(worst: Worst | None, x: Tensor, damage: Tensor) -> Worst:
    """The worst so far and what was met now."""
    if worst is None:
        return Worst(x, damage)
    worst.take(x, damage)
    return worst
