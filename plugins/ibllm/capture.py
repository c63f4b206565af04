"""Iterations that are captured and replayed (CUDA graphs): the host copies the batch and a few numbers, and starts the device's work as a whole.

Iterations are of one kind where the same players play the same losses on batches of the same shapes. Of a kind, the first iterations are eager. Then it is
captured, and the next one is computed both ways. Only where both agree the others are replayed; anything else is eager, and said once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import attrs
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.noise import on_device
from ibllm_core.model.watch import Present
from ibllm_core.training.events import Listener, TrainerBuilt

if TYPE_CHECKING:
    from ibllm_core.model.stage import StageTrainer
    from ibllm_core.training.session import Session

#: Eager iterations of a kind before it is captured: libraries choose their kernels, optimizers make their moments.
_EAGER = 3
#: Kinds of a stage that are captured; each keeps memory of its own for its batch.
_MOST = 24
#: What may differ between an iteration and its replay beside what differs between two eager ones: the part of the change that it makes.
_ROUNDING = 1e-6


class Capture(Listener):
    """Has a run's iterations captured, as its recipe asks."""

    def on_trainer_built(self, event: TrainerBuilt) -> None:
        arrange(event.session, event.trainer)


def arrange(session: Session, trainer: StageTrainer) -> None:
    """A stage's iterations are captured, as the recipe asks; where they cannot be, that is told."""
    wanted, device = session.recipe.compute.graphs, session.model.device
    if wanted and device.type == "cuda" and session.ranks.count == 1:
        trainer.replays = Captures(trainer, CudaGraphs(), session.tell)
    elif wanted is True or (wanted and device.type == "cuda"):
        why = f"device {device} has no CUDA graphs" if device.type != "cuda" else "a run of several processes is not captured"
        session.tell(f"compute.graphs: {why}; iterations are eager")


class NotCaptured(Exception):
    """Why an iteration cannot be captured, in words."""


class Recorder(Protocol):
    """What captures the work of a device."""

    def record(self, play: Callable[[], None]) -> Callable[[], object]:
        """What does again on the same memory whatever `play` does on the device, of which nothing is done now."""


class CudaGraphs(Recorder):
    """CUDA graphs that share their memory: one is replayed after the other."""

    def __init__(self) -> None:
        self._pool: Any = None

    def record(self, play: Callable[[], None]) -> Callable[[], object]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # Other threads, which pin batches meanwhile, are not part of it.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            play()
        self._pool = graph.pool()
        return graph.replay


class _CapturedPresent(Present):
    """An iteration that is captured: what follows its number is on the device, and `go_to` changes it there."""

    def __init__(self, device: torch.device) -> None:
        self.drawn = torch.zeros((), dtype=torch.int64, device=device)
        self._values, self._weights = torch.zeros(1024, device=device), list[Callable[[int], float]]()

    @property
    def step(self) -> NoReturn:  # type: ignore[override]
        raise NotCaptured("it asks for the iteration's number (Cycle.step); expected Cycle.at, which gives a weight's value")

    def at(self, weight: Callable[[int], float]) -> Tensor:
        self._weights.append(weight)
        return self._values[len(self._weights) - 1]

    def go_to(self, step: int) -> None:
        """Weights and noise are those of `step`."""
        assert isinstance(self.drawn, Tensor)
        self.drawn.fill_(step)
        if self._weights:
            values = torch.tensor([weight(step) for weight in self._weights], dtype=self._values.dtype)
            self._values[: len(values)].copy_(on_device(values, self._values.device))


@attrs.define
class _Captured:
    """A kind of iteration, captured.

    Attributes:
        batches: what it reads, in memory of its own.
        recorded: what it logs, sum and times; each replay writes it anew.
        played: player → how often it plays.
        checked: whether a replay was compared with an eager iteration.
    """

    replay: Callable[[], object]
    batches: Sequence[Batch]
    present: _CapturedPresent
    recorded: Mapping[str, tuple[Tensor, int]]
    played: Mapping[str, int]
    checked: bool = False

    def load(self, batches: Sequence[Batch], step: int) -> None:
        """Takes in a batch as it is on the device, and the iteration's number."""
        for own, given in zip(self.batches, batches, strict=True):
            for target, source in zip(_tensors(own), _tensors(_keyed(given)), strict=True):
                target.copy_(source, non_blocking=True)
        self.present.go_to(step)


class Captures:
    """Plays the iterations of a stage, replayed where that can be.

    Args:
        trainer: of the stage.
        recorder: captures what a device does.
        tell: says something once.

    Attributes:
        replayed: iterations that were replayed.
    """

    def __init__(self, trainer: StageTrainer, recorder: Recorder, tell: Callable[[str], None]) -> None:
        self._trainer, self._recorder, self._tell = trainer, recorder, tell
        self._captured: dict[Hashable, _Captured] = {}
        self._seen = Counter[Hashable]()
        self._held: tuple[float | None, ...] = ()
        self._ended = False
        self.replayed = 0

    def play(self, batches: Sequence[Batch], rate: float) -> None:
        """The trainer's present iteration on micro-batches on the device, with a factor on the learning rates."""
        trainer, kind = self._trainer, self._kind(batches)
        held = (getattr(trainer.course, "constants", 0), *(getattr(loss, "balance", None) for loss in trainer.losses.values()))
        if self._held != held:
            # A validation, a schedule or a user has changed what may be a constant of the captures.
            self._captured.clear()
            self._seen.clear()
            self._held = held
        captured = self._captured.get(kind)
        if captured is None:
            self._seen[kind] += 1
            if not self._ended and self._seen[kind] > _EAGER:
                self._capture(kind, batches)
            trainer.play(batches, rate)
        elif not captured.checked:
            self._check(captured, batches, rate)
        else:
            self._replay(captured, batches, rate)
            trainer.record_again(captured.recorded)
            self.replayed += 1

    def described(self) -> dict[str, int]:
        """For the record: kinds that are replayed, and iterations that were."""
        return {"captured": sum(one.checked for one in self._captured.values()), "replayed": self.replayed}

    def _kind(self, batches: Sequence[Batch]) -> Hashable:
        trainer = self._trainer
        turns = tuple((player.name, player.plays(trainer.step), *(term.name for term in player.due())) for player in trainer.players)
        return trainer.procedure.alike(trainer.step), turns, tuple(tuple(t.shape) for batch in batches for t in _tensors(batch))

    def _why_not(self) -> str:
        """What keeps a stage's iterations from being captured; empty where nothing does."""
        trainer, device = self._trainer, self._trainer.model.device
        if trainer.procedure.alike(trainer.step) is None:
            return "its procedure does not say which iterations it plays alike (Procedure.alike)"
        for player in trainer.players:
            rates = [group["lr"] for group in player.optimizer.param_groups]
            if not all(isinstance(rate, Tensor) and rate.device == device for rate in rates):
                return f"the optimizer of the {player.name} does not read its rate on the device (a tensor there, capturable = True)"
        if drawing := sorted(trainer.model.unkeyed):
            return f"{', '.join(drawing)} draws from torch's global generator"
        return f"more than {_MOST} kinds of iteration: batches have many shapes" if len(self._captured) >= _MOST else ""

    def _capture(self, kind: Hashable, batches: Sequence[Batch]) -> None:
        trainer, before = self._trainer, self._trainer.played()
        if why := self._why_not():
            self._end(why, "eager" if not self._captured else "eager but for what is captured")
            return
        memory = [_keyed(batch).mapped(Tensor.clone) for batch in batches]
        present, buffers = _CapturedPresent(trainer.model.device), [(module, dict(module._buffers)) for module in self._modules()]
        try:
            with trainer.recorded_apart() as recorded:
                replay = self._recorder.record(lambda: trainer.play(memory, None, present))
            played = {name: count - before[name] for name, count in trainer.played().items()}
            self._captured[kind] = _Captured(replay, memory, present, recorded, played)
        except Exception as error:  # whatever a part or a library does that cannot be captured: the iteration itself is sound
            self._end(_said(_first_of(error)), "eager")
        finally:
            trainer.go_to(trainer.step, before)
        replaced = [type(module).__name__ for module, own in buffers if any(module._buffers[name] is not t for name, t in own.items())]
        if replaced:
            for module, own in buffers:
                module._buffers.update(own)
            self._captured.pop(kind, None)
            self._end(f"{', '.join(replaced)} puts another tensor in the place of a buffer; expected to write into it", "eager")

    def _end(self, why: str, how: str) -> None:
        self._ended = True
        self._tell(f"stage {self._trainer.stage.name} is not captured and runs {how}: {why}")

    def _replay(self, captured: _Captured, batches: Sequence[Batch], rate: float) -> None:
        trainer = self._trainer
        captured.load(batches, trainer.step)
        for player in trainer.players:
            if captured.played[player.name]:
                player.set_rate(rate)
        captured.replay()
        for player in trainer.players:
            player.steps += captured.played[player.name]

    def _check(self, captured: _Captured, batches: Sequence[Batch], rate: float) -> None:
        """An iteration that is eager, and replayed beside it: no further apart than two eager ones."""
        trainer, played = self._trainer, self._trainer.played()
        try:
            before, eager = self._copied(), self._copied()
        except torch.OutOfMemoryError as error:
            self._captured.clear()
            self._end(f"there is no memory to compare a replayed iteration with an eager one: {_said(error)}", "eager")
            trainer.play(batches, rate)
            return

        def again(play: Callable[[], None]) -> float:
            """How far from the eager iteration another one ends."""
            _put(self.state(), before)
            trainer.go_to(trainer.step, played)
            play()
            return _apart(self.state(), eager, before)

        with trainer.recorded_apart() as recorded:
            trainer.play(batches, rate)
        trainer.record_again(recorded)
        _put(eager, self.state())
        done = trainer.played()
        apart = again(lambda: self._replay(captured, batches, rate))
        if not apart <= _ROUNDING:
            with trainer.recorded_apart():
                apart -= 4 * again(lambda: trainer.play(batches, rate))
        _put(self.state(), eager)
        trainer.go_to(trainer.step, done)
        logs = [
            name
            for name, (value, _) in recorded.items()
            if not torch.allclose(captured.recorded[name][0], value, rtol=1e-2, atol=1e-4, equal_nan=True)
        ]
        captured.checked = apart <= _ROUNDING and not logs
        if not captured.checked:
            self._captured.clear()
            what = (
                "does not do what an eager one does"
                if not logs or not apart <= _ROUNDING
                else f"does not log what an eager one does ({', '.join(logs)})"
            )
            self._end(f"a replayed iteration {what}: something in it was computed on the host", "eager")

    def _modules(self) -> list[nn.Module]:
        return [module for one in (self._trainer.model, *self._trainer.losses.values()) for module in one.modules()]

    def state(self) -> list[Tensor]:
        """All that an iteration changes."""
        trainer = self._trainer
        of = [[*module.parameters(recurse=False), *module.buffers(recurse=False)] for module in self._modules()]
        moments = [list(player.optimizer.state.values()) for player in trainer.players]
        return [t.detach() for t in tree_leaves([of, moments, dict(trainer.procedure.state())]) if isinstance(t, Tensor)]

    def _copied(self) -> list[Tensor]:
        return [tensor.clone() for tensor in self.state()]


def _put(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(into, values, strict=True):
        tensor.copy_(value)


def _first_of(error: BaseException) -> BaseException:
    """What went wrong first: what ends a capture complains as well."""
    return error if error.__context__ is None else _first_of(error.__context__)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _keyed(batch: Batch) -> Batch:
    """A batch whose items' numbers are on the device."""
    device = next(tensor.device for tensor in _tensors(batch))
    return attrs.evolve(batch, keys=on_device(torch.from_numpy(batch.numbers), device))


def _tensors(batch: Batch) -> list[Tensor]:
    fields = [getattr(batch, field.name) for field in attrs.fields(Batch)]
    return [leaf for leaf in tree_leaves(fields) if isinstance(leaf, Tensor)]


def _apart(found: Sequence[Tensor], expected: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """The largest distance of a tensor from what it should be, as a part of the way that it went."""
    apart = 0.0
    for f, e, b in zip(found, expected, before, strict=True):
        if not torch.equal(f, e):
            distance = float((f.double() - e.double()).norm() / ((e.double() - b.double()).norm() + 1e-12))
            apart = apart if distance <= apart else distance  # a distance that is no number is kept
    return apart
