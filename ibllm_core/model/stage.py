"""One stage: its players, one iteration, its state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..interfaces.batch import Batch
from ..interfaces.loss import CriticLoss, Loss, Scale
from ..interfaces.randomness import derive_key
from ..recipe.schema import Recipe, Stage
from . import build
from .cycle import Cycle
from .knobs import Knobs
from .model import Model
from .optimizer_state import pack_optimizer, unpack_optimizer
from .players import MODEL, Player, make_players, set_trainable

if TYPE_CHECKING:
    from .ranks import Ranks


class StageTrainer:
    """Trains one stage, an iteration at a time.

    Args:
        recipe, stage: what to do.
        model, losses: shared by all stages.
        average: name → averaged weight, updated in place; empty for none.
        ranks: this process among all.
    """

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        model: Model,
        losses: Mapping[str, Loss | CriticLoss],
        average: Mapping[str, Tensor],
        ranks: Ranks,
    ) -> None:
        self.recipe, self.stage, self.model, self.losses, self.ranks = recipe, stage, model, losses, ranks
        set_trainable(model, stage.train)
        self.players = make_players(recipe, stage, model, losses)
        self.knobs = Knobs()
        self.step = 0
        self._schedule = build.build_schedule(recipe, stage)
        named = dict(model.named_parameters())
        trained = [name for name, p in named.items() if p.requires_grad and name in average]
        self._averages: list[Tensor] = [average[name] for name in trained]
        self._averaged: list[Tensor] = [named[name] for name in trained]
        self.sums: dict[str, Tensor] = {}
        self.plays: dict[str, int] = {}

    def iterate(self, micro: Sequence[Batch]) -> None:
        """One iteration: the critic plays first, on the drawn image detached; the model then plays on the same image with its graph."""
        torch.manual_seed(derive_key(self.recipe.seed.data, "dropout", self.stage.name, self.step, self.ranks.rank))
        batches = [batch.to(self.model.device) for batch in micro]
        rate = self._schedule.factor(self.step, self.stage.steps) * self.knobs.rate
        scale = self._scale(batches)
        # With micro-batches the images are drawn again for the second player: keeping every graph would defeat their purpose.
        shared = [self._cycle(batches[0], scale)] if len(batches) == 1 else None
        for player in self.players:
            if player.plays(self.step):
                self._play(player, batches, shared, scale, rate)
        self.step += 1

    def _cycle(self, batch: Batch, scale: Scale) -> Cycle:
        key = (self.recipe.seed.data, "train", self.stage.name, self.step)
        return Cycle(self.model, batch, self.losses, key, self.step, scale)

    def _play(self, player: Player, batches: Sequence[Batch], shared: Sequence[Cycle] | None, scale: Scale, rate: float) -> None:
        player.optimizer.zero_grad(set_to_none=True)
        with player.alone([other for other in self.players if other is not player] if player.name == MODEL else []):
            totals: dict[str, Tensor] = {}
            for number, batch in enumerate(batches):
                cycle = shared[number] if shared else self._cycle(batch, scale)
                with self.model.precision():
                    loss, values = player.loss(cycle, self.step)
                (loss / len(batches)).backward()  # type: ignore[no-untyped-call]
                for name, value in values.items():
                    totals[name] = totals.get(name, 0) + value / len(batches)
        for name, value in totals.items():
            self._note(f"loss/{name}" if player.name == MODEL else f"loss/{player.name}/{name}", value)
        self.ranks.average_gradients(player.parameters.values())
        clip = self.stage.training.clip
        if clip > 0:
            norm = torch.nn.utils.clip_grad_norm_(list(player.parameters.values()), clip)
            self._note(f"grad_norm/{player.name}", norm.detach())
        player.set_rate(rate)
        player.optimizer.step()
        player.steps += 1
        if player.name == MODEL and self._averages:
            # Early on a long average would remember the first weights: the decay grows as (1 + t) / (10 + t) up to its value.
            decay = min(self.stage.training.ema, (1 + player.steps) / (10 + player.steps))
            with torch.no_grad():
                torch._foreach_lerp_(self._averages, self._averaged, 1 - decay)

    def _scale(self, batches: Sequence[Batch]) -> Scale:
        """Counts over all ranks and micro-batches, where there is more than one share."""
        shares = self.ranks.count * len(batches)
        if shares == 1:
            return Scale()
        counts: dict[str, Tensor] = {}
        for name in build.losses_with_terms(self.recipe, tuple(self.stage.losses)):
            loss = self.losses[name]
            found = [loss.count(self._cycle(b, Scale())) for b in batches] if isinstance(loss, Loss) else []
            known = [count for count in found if count is not None]
            if known:
                counts[name] = self.ranks.total(torch.stack(known).sum().float())
        return Scale(shares, self.stage.training.batch, counts)

    def _note(self, name: str, value: Tensor) -> None:
        """Sums on the device; read at log steps only."""
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.plays[name] = self.plays.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means since the last reading. Synchronises the device."""
        if not self.sums:
            return {}
        stacked = torch.stack([value.float() for value in self.sums.values()])
        values = self.ranks.total(stacked).div_(self.ranks.count).tolist()
        means = {name: value / self.plays[name] for name, value in zip(self.sums, values, strict=True)}
        self.sums, self.plays = {}, {}
        for player in self.players:
            means[f"lr/{player.name}"] = player.optimizer.param_groups[0]["lr"]
        return means

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Within, the model has the weights to be used where an optimizer trains at others (schedule-free methods)."""
        with ExitStack() as stack:
            for player in self.players:
                stack.enter_context(player.settled())
            yield

    def settle(self) -> None:
        """The model keeps the weights to be used: nothing is trained in this stage any more."""
        for player in self.players:
            player.settle()

    def steer(self) -> None:
        """Hands the steered λ to the composite."""
        plan = self.stage.validate
        if plan is not None and plan.balance is not None:
            loss = self.losses[plan.balance.loss]
            assert isinstance(loss, Loss)
            loss.balance = self.knobs.balance

    def state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Counters and steering as JSON; optimizer moments as tensors."""
        values: dict[str, Any] = {"step": self.step, "knobs": self.knobs.state(), "players": {}, "optimizers": {}}
        tensors: dict[str, dict[str, Tensor]] = {}
        for player in self.players:
            moments, plain = pack_optimizer(player.optimizer)
            values["players"][player.name], values["optimizers"][player.name] = player.steps, plain
            tensors[f"optimizer-{player.name}"] = moments
        return values, tensors

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes back what `state` gave."""
        self.step, self.knobs = values["step"], Knobs(**values["knobs"])
        for player in self.players:
            player.steps = values["players"][player.name]
            unpack_optimizer(player.optimizer, tensors.get(f"optimizer-{player.name}", {}), values["optimizers"][player.name])
        self.steer()
