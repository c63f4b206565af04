"""A player's gradients over processes, by torch's own engine for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .cycle import Cycle
from .players import Player
from .sharding import in_shards
from .shares import Ranks


class _Turn(nn.Module):
    """A module whose forward is a player's weighted loss, and whose parameters are the player's."""

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.weights, self.loss = nn.ParameterList(p for p in player.parameters.values() if not in_shards(p)), player.loss
        # Reached by no turn, as others are by some: where all were reached, torch would advise against looking which are.
        if len(self.weights):
            self.never = nn.Parameter(self.weights[0].new_zeros(1))

    def forward(self, cycle: Cycle) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(cycle)


class Engine:
    """Plays a player's turns: the backward pass of a turn's last micro-batch averages the gradients of all micro-batches over processes.

    Each process plays the same turns with as many micro-batches. A parameter that no process's losses reach keeps no gradient.
    """

    def __init__(self, player: Player, ranks: Ranks) -> None:
        turn = _Turn(player)
        self._turn: nn.Module = turn
        if ranks.count > 1 and len(turn.weights):  # those of sharded parts are averaged where they are
            # What a turn reaches changes: losses have steps of their own, and the other player's parameters are frozen meanwhile.
            self._turn = DistributedDataParallel(self._turn, find_unused_parameters=True, init_sync=False)

    def loss(self, cycle: Cycle) -> tuple[Tensor, dict[str, Tensor]]:
        """As `Player.loss`."""
        found: tuple[Tensor, dict[str, Tensor]] = self._turn(cycle)
        return found

    def micro_batch(self, last: bool) -> AbstractContextManager[Any]:
        """For the forward and backward pass of a micro-batch."""
        return nullcontext() if last or not isinstance(self._turn, DistributedDataParallel) else self._turn.no_sync()
