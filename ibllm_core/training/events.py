"""What happens in a run, and the bus that takes it to whoever listens. Torch-free.

The display, trackers, metrics.jsonl, plugins' lifecycle hooks and the report are listeners; training knows none of them. A listener looks on: events
hold no model (but `Prepared`, `TrainerBuilt`, `Measured` and `NotFinite`), their figures are read-only, and one that raises is named, left out, and
changes nothing.
"""

from __future__ import annotations

import re
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from ..errors import Notice, UserError, nearest, system_error
from ..host.attribution import cause
from ..interfaces.reporting import Panel, Panels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..model.evaluation import Evaluation
    from ..model.stage import StageTrainer
    from ..recipe.schema import Recipe, Stage
    from .session import Session


Handler = Callable[[Any], None]


def _figures() -> Any:
    """A field of name → value that nobody can change."""
    return attrs.field(converter=lambda values: MappingProxyType(dict(values)))


@attrs.frozen
class RunStarted:
    """The recipe has been read; nothing is built or written. A listener appends what speaks against the run, which then ends with it.

    `recorded`: it goes on with the record that there is; otherwise the new one keeps what listeners put into `record`.
    """

    recipe: Recipe
    run_directory: Path
    recorded: bool = False
    against: list[BaseException] = attrs.field(factory=list)
    record: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Prepared:
    """Everything is built; nothing is written or trained yet. A listener appends what speaks against the run, which then ends with it.

    It may play anything with a copy of the session, as long as weights and global generators are as before in the end.
    """

    session: Session
    against: list[BaseException] = attrs.field(factory=list)


@attrs.frozen
class Rehearsed:
    """What follows the training was played on a few items; `run_directory` holds what came of it, like a run's, and is gone afterwards."""

    run_directory: Path
    panels: Sequence[Panel] = ()


@attrs.frozen
class ModelBuilt:
    """All parts are built and the run directory is there; `total` iterations are done, more than 0 after a restart."""

    total: int


@attrs.frozen
class TrainerBuilt:
    """What trains the next stage is built and its state taken back. A listener may say how its iterations are played (`replays`), not what they do."""

    session: Session
    trainer: StageTrainer


@attrs.frozen
class StageStarted:
    """Stage `number` of `count` (from 1) starts, or goes on after a restart, at `step`."""

    stage: Stage
    number: int
    count: int
    step: int


@attrs.frozen
class Stepped:
    """`step` steps of the stage are done. Nothing has been synchronised. Made only where somebody listens."""

    stage: Stage
    step: int


@attrs.frozen
class Logged:
    """A row of figures, which metrics.jsonl and trackers keep; `total` counts iterations over all stages.

    `kind` is ``train`` (means since the last such row), ``validation``, ``stage`` (after it) or ``result`` (of the run: stage ``end``, step 0).
    """

    kind: str
    stage: str
    step: int
    total: int
    figures: Mapping[str, float] = _figures()


@attrs.frozen
class Validated:
    """A validation is done; `best` where the watched figure is the stage's best so far."""

    stage: Stage
    step: int
    figures: Mapping[str, float] = _figures()
    best: bool = False


@attrs.frozen
class Measuring:
    """Something is about to be measured."""

    what: str


@attrs.frozen
class Measured:
    """A split was measured at the end of the run: `evaluation` is what its metrics have looked at."""

    session: Session
    evaluation: Evaluation


@attrs.frozen
class NotFinite:
    """A loss or a gradient is no finite number any more, and the run is about to fail: listeners append what they find out.

    They may play iterations again and change the weights, which nobody uses afterwards.
    """

    stage: Stage
    session: Session
    trainer: StageTrainer
    findings: list[str] = attrs.field(factory=list)


@attrs.frozen
class StageEnded:
    """A stage is done and its checkpoint written; `figures` are ``SPLIT/FIGURE`` → value, `note` says how it ended if not after its last step."""

    stage: Stage
    step: int
    seconds: float
    figures: Mapping[str, float] = _figures()
    note: str = ""


@attrs.frozen
class Sampled:
    """A sheet of samples is drawn: (h w c) uint8, not to be changed."""

    name: str
    pixels: npt.NDArray[np.uint8]
    total: int


@attrs.frozen
class RunEnded:
    """The run is done: model folder, figures and samples are written. `panels` has the metrics'; a listener may append its own."""

    figures: Mapping[str, float] = _figures()
    panels: Panels = attrs.field(factory=Panels)


@attrs.frozen
class Failed:
    """An error ends the run; being stopped is none."""

    error: BaseException


@attrs.frozen
class RunClosed:
    """The last event of a run whose model was built: its record is written. `status` is ``done``, ``interrupted`` or ``failed``.

    What listeners append to `closing`, texts or what Rich renders, is shown in the terminal when the run is done.
    """

    run_directory: Path
    status: str
    closing: list[object] = attrs.field(factory=list)


#: Name of a listener's method → the event it is called with.
EVENTS: Mapping[str, type] = {
    "on_" + re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower(): event
    for event in (
        RunStarted, Prepared, Rehearsed, ModelBuilt, TrainerBuilt, StageStarted, Stepped, Logged, Validated, Measuring, Measured, NotFinite,
        StageEnded, Sampled, RunEnded, Failed, RunClosed,
    )
}  # fmt: skip


class Listener:
    """Looks on while a run goes on: has a method ``on_EVENT(event)`` for each event that it wants (`EVENTS`).

    Called in the first process only (but see `everywhere`), in the thread that trains.

    Attributes:
        key: under which its time stands in the run's timings; by default ``listeners/CLASS`` in lower case.
        distribution, version: where it is from; empty for the caller's own.
        hooks: the plugin's hooks that it stands for.
        essential: without it the run has no record of what it did, so what it raises ends the run.
        everywhere: every process of the run calls it: what it finds is the same in all, and none is to wait for one that has failed.
    """

    key = distribution = version = ""
    hooks: tuple[str, ...] = ()
    essential = everywhere = False

    def __init_subclass__(cls) -> None:
        cls.key = cls.key or f"listeners/{cls.__name__.lower()}"

    def handlers(self) -> Iterable[tuple[type, str, Handler]]:
        """(event, name for messages, what is called). Raises `UserError` for a method that belongs to no event."""
        for name in (name for name in dir(self) if name.startswith("on_")):
            if name not in EVENTS:
                guess = nearest(name, EVENTS)
                raise UserError(f"{type(self).__name__}.{name}: there is no such event" + (f"; did you mean {guess}?" if guess else ""))
            yield EVENTS[name], name, getattr(self, name)


class Clock:
    """Counts every moment for the innermost `timed` around it, and for that alone: a listener's time is not its stage's."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._within: list[str] = []
        self._since = 0.0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Within, time counts for `name`."""
        self.read()
        self._within.append(name)
        try:
            yield
        finally:
            self.read()
            self._within.pop()

    def read(self) -> dict[str, float]:
        """Name → seconds so far; listeners (``GROUP/NAME``) stand last."""
        now = time.perf_counter()
        if self._within:
            self._seconds[self._within[-1]] += now - self._since
        self._since = now
        return dict(sorted(self._seconds.items(), key=lambda item: "/" in item[0]))

    def add(self, seconds: Mapping[str, float]) -> None:
        """Counts the seconds of an earlier part of the run, too."""
        for name, spent in seconds.items():
            self._seconds[name] += spent


class Bus:
    """Takes events to listeners; its `clock` counts the time of each under its key."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._handlers: list[tuple[Listener, type, str, Handler]] = []
        self._by_name: dict[str, Listener] = {}
        self._errors: defaultdict[str, list[dict[str, str]]] = defaultdict(list)

    def add(self, *listeners: Listener, first: bool = False) -> None:
        """Adds listeners: they are called after those that there are, or before them (`first`)."""
        added = [(listener, *handler) for listener in listeners for handler in listener.handlers()]
        self._handlers = added + self._handlers if first else self._handlers + added
        self._by_name |= {listener.key.removeprefix("hooks/"): listener for listener in listeners}

    def listens(self, event: type) -> bool:
        """True where somebody wants such events."""
        return any(wanted is event for _, wanted, *_ in self._handlers)

    def emit(self, event: object) -> None:
        """Calls everybody who listens, and raises what they have against the run.

        A handler that raises is warned of, recorded, and not called again; one of an essential listener ends the run.
        """
        for entry in [entry for entry in self._handlers if entry[1] is type(event)]:
            listener, _, name, handler = entry
            with self.clock.timed(listener.key):
                try:
                    handler(event)
                except (Exception, SystemExit) as error:
                    if listener.essential:
                        raise
                    self._handlers.remove(entry)
                    self._contain(listener, name, error)
        for problem in getattr(event, "against", ()):
            raise problem

    def _contain(self, listener: Listener, name: str, error: BaseException) -> None:
        group, _, short = listener.key.partition("/")
        raised, whose = cause(error), listener.distribution if system_error(error) is None else ""
        self._errors[listener.key.removeprefix("hooks/")].append({"hook": name, "error": raised})
        origin = f" ({listener.distribution}=={listener.version})" if listener.distribution else ""
        remedy = f". Tell its maintainer, or upgrade {whose}" if whose else ""
        who = f"{name} of the {'plugin' if group == 'hooks' else 'listener'} {short!r}{origin}"
        warnings.warn(Notice(f"{who} raised {raised}; the run goes on without it{remedy}"), stacklevel=4)

    def record(self) -> dict[str, Any]:
        """For run.json: who has hooks or has raised → where it is from, its hooks, and what raised."""
        return {
            name: {"distribution": one.distribution, "version": one.version, "hooks": list(one.hooks), "errors": self._errors[name]}
            for name, one in self._by_name.items()
            if one.hooks or self._errors[name]
        }

    def take_over(self, record: Mapping[str, Any]) -> None:
        """Keeps the errors of an earlier part of the run, as `record` wrote them; what raised is tried again."""
        for name, entry in record.items():
            self._errors[name] = [*entry["errors"], *self._errors[name]]
