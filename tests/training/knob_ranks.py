"""One process of several that train as one while something is turned: ``knob_ranks.py FOLDER``. The first one asks for it after its third step, between
two rows of figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ibllm.plugin import turn
from ibllm_core.recipe import Recipe
from ibllm_core.recipe import load as read
from ibllm_core.training.distributed import described
from ibllm_core.training.events import Listener, Stepped, TrainerBuilt
from ibllm_core.training.job import Job

TINY = Path(__file__).with_name("tiny.toml")
#: Three short stages with a critic, an average, a plateau, dropout and data that jitter.
SMALL = (
    "compute.device=cpu",
    "compute.threads=1",
    "metrics.scene=false",
    "metrics.round_trip=false",
    "trackers.tensorboard=false",
    "stages.text.steps=6",
    "stages.image.steps=5",
    "stages.joint.steps=4",
    "stages.text.validate={every=2,items=4,plateau={factor=0.5,patience=1}}",
    "evaluation.items=4",
    "evaluation.after_stage=0",
)
RANK = described()[0]


def load(sets: tuple[str, ...], more: tuple[str, ...] = ()) -> Recipe:
    return read(TINY, (*sets, *more))


class Asks(Listener):
    """Of the first process."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def on_stepped(self, event: Stepped) -> None:
        if event.step == 3 and event.stage.name == "text":
            turn(self._run, "losses.image_nll.weight=0.5", "training.clip=0.2", by="the first process")


def main(folder: Path) -> None:
    run = folder / "run"
    job = Job(load(SMALL, ("training.log_every=4",)), run, [Asks(run)])
    seen: list[tuple[int, float, float]] = []
    bus = job._bus

    def with_ours() -> object:
        made, hooks = bus()
        made.add(Looks(seen))
        return made, hooks

    job._bus = with_ours  # type: ignore[method-assign, assignment]
    job.run()
    (folder / f"rank-{RANK}.json").write_text(json.dumps(seen))


class Looks(Listener):
    """Notes what each step was made with, in every process."""

    everywhere = True

    def __init__(self, seen: list[tuple[int, float, float]]) -> None:
        self._seen = seen

    def on_trainer_built(self, event: TrainerBuilt) -> None:
        iterate, trainer, session = event.trainer.iterate, event.trainer, event.session

        def noted(micro):  # type: ignore[no-untyped-def]
            term = trainer.players[-1].terms[0]
            self._seen.append((session.step, term.weight, trainer.stage.training.clip))
            iterate(micro)

        trainer.iterate = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
