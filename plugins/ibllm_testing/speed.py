"""How fast a component is beside one of ibllm's own, measured in turns in one process: ``python -m ibllm_testing.speed FILE``.

Reads a list of tasks off standard input and writes a list of results into FILE, both JSON (see `measure`); used by ``ibllm plugin check``.
"""

from __future__ import annotations

import copy
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from ibllm_core.host.options import Config, LossConfig
from ibllm_core.recipe import load

from . import SUITES, LossSuite, MetricSuite, OptimizerSuite, PerturbationSuite, ProcedureSuite, TokenizerSuite, TrackerSuite
from .fixtures import best_device
from .inputs import fabricate
from .parts import PartSuite
from .stand_ins import LetterTokenizer
from .suite import Suite
from .tracker import TINY

#: Sizes of the comparison: items of a batch, the width of parts and latents, tokens of the longest texts.
ITEMS, WIDTH, LENGTHS = 32, 128, (15, 7, 11)
#: Rounds, in each of which both are timed for at least SHORTEST seconds; fewer where they would take longer than LONGEST altogether.
ROUNDS, SHORTEST, LONGEST = 9, 0.02, 8.0
#: Kind → the component of ibllm's that others are compared with, and its options; `reference` knows the exceptions.
REFERENCES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "text_encoder": ("lstm", {}),
    "image_decoder": ("cnn", {}),
    "image_encoder": ("cnn", {}),
    "text_decoder": ("lstm", {}),
    "discriminator": ("matching_aware", {}),
    "image_tokenizer": ("vq", {}),
    "loss": ("image_nll", {}),
    "dataset": ("shapes", {}),
    "tokenizer": ("word", {"size": 64}),
    "metric": ("bleu", {}),
    "optimizer": ("adamw", {}),
    "schedule": ("cosine", {}),
    "procedure": ("alternate", {}),
    "perturbation": ("noise", {}),
    "tracker": ("tensorboard", {}),
}

#: What is timed, and how one would call it.
Work = tuple[Callable[[], object], str]


def reference(kind: str, config: Config) -> tuple[str, Mapping[str, Any]]:
    """The component of ibllm's that does most nearly the same work."""
    if kind == "image_decoder" and "differentiable_draw" not in config.provides():
        return ("vq_transformer" if "image_tokens" in config.provides() else "flow"), {}
    if kind == "image_tokenizer" and "tokens" not in config.provides():
        return "kl", {}
    if kind == "loss" and isinstance(config, LossConfig):
        if "critic" in config.players():
            return ("relativistic" if "model" in config.players() else "gradient_penalty"), {}
        if "image_decoder" not in {need.partition(".")[0] for need in config.needs()}:
            return "text_nll", {}
    return REFERENCES[kind]


def measure(task: Mapping[str, Any]) -> dict[str, Any]:
    """Times a component and its reference in turns.

    Args:
        task: ``kind``, ``name``, ``options``, ``surroundings`` (of `ibllm_author.checked_package.Component`); ``against``, a name
            instead of the usual reference.

    Returns ``reference``, ``what`` was timed, ``ratio`` (component ÷ reference, of medians), ``lowest`` and ``highest`` ratio of a round,
    ``milliseconds`` of one pass of either, ``rounds``; or ``error``.
    """
    kind, name = task["kind"], task["name"]
    try:
        own = _suite(kind, name, task["options"], task["surroundings"])
        other, options = (task["against"], {}) if task.get("against") else reference(kind, own.config())
        with best_device() as device, tempfile.TemporaryDirectory() as folder:
            first, what = work(own, device, Path(folder))
            second, _ = work(_suite(kind, other, options, task["surroundings"]), device, Path(folder))
            return {"reference": f"{kind}.{other}", "what": what, **compare(first, second)}
    except Exception as error:  # whatever a stranger's part does, the others are still to be measured
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def compare(first: Callable[[], object], second: Callable[[], object]) -> dict[str, Any]:
    """Seconds of `first` ÷ seconds of `second`, each pass timed with whatever the device still has to do."""
    both = (first, second)
    for call in both:
        _timed(call, 2)  # what is done only once
    once = [_timed(call, 1) for call in both]
    passes = [max(1, math.ceil(SHORTEST / max(seconds, 1e-7))) for seconds in once]
    rounds = min(ROUNDS, max(3, int(LONGEST / sum(s * n for s, n in zip(once, passes, strict=True)))))
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):  # neither is always first
            taken[which].append(_timed(both[which], passes[which]) / passes[which])
    ratios = [a / b for a, b in zip(*taken, strict=True)]
    medians = [statistics.median(seconds) for seconds in taken]
    return {
        "ratio": round(medians[0] / medians[1], 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "milliseconds": [round(1e3 * seconds, 4) for seconds in medians],
        "rounds": rounds,
    }


def work(suite: Any, device: torch.device, folder: Path) -> Work:
    """One pass of a component in surroundings of the usual sizes."""
    made: Callable[[Any, torch.device, Path], Work] = _WORK.get(suite.kind, _part)
    return made(suite, device, folder)


def _part(suite: PartSuite, device: torch.device, _: Path) -> Work:
    tokenizer = LetterTokenizer(max_length=max(LENGTHS) + 1)
    context = attrs.evolve(
        suite.context(), width=WIDTH, latent=WIDTH, latents={"text_encoder": WIDTH, "image_encoder": WIDTH}, tokenizer=tokenizer
    )
    part, m = suite.make(context, device=device).train(), fabricate(context, ITEMS, lengths=LENGTHS).to(device)

    def play() -> None:
        part.zero_grad(set_to_none=True)
        suite.objective(part, m).backward()  # type: ignore[no-untyped-call]

    return play, f"forward and backward of {ITEMS} items, width {WIDTH}"


def _loss(suite: LossSuite, device: torch.device, _: Path) -> Work:
    loss, model, m = (
        suite.make(device=device).train(),
        suite.model(device).train(),
        fabricate(suite.context(), ITEMS, lengths=LENGTHS).to(device),
    )

    def play() -> None:
        for value in suite._sides(loss, suite.cycle(model, loss, m)).values():
            total = value[0] if isinstance(value, tuple) else value
            if total.requires_grad:
                total.backward()  # type: ignore[no-untyped-call]

    return play, f"forward and backward of {ITEMS} items, through stand-ins for the parts"


def _dataset(suite: Suite, _: torch.device, __: Path) -> Work:
    dataset = suite.make()
    numbers = np.arange(ITEMS, dtype=np.int64) % dataset.sizes()["train"]
    return lambda: dataset.samples("train", numbers), f"making {ITEMS} items"


def _tokenizer(suite: TokenizerSuite, _: torch.device, __: Path) -> Work:
    tokenizer = suite.trained()
    return lambda: tokenizer.decode(tokenizer.encode(suite.corpus)[0]), f"{len(suite.corpus)} texts to ids and back"


def _metric(suite: MetricSuite, device: torch.device, _: Path) -> Work:
    evaluation = suite.evaluation(device)
    suite.make().evaluate(evaluation)  # what the model draws and reads is not the metric's own work, and is kept

    def figures() -> None:
        fresh = copy.copy(evaluation)
        fresh._shared = {}
        suite.make().evaluate(fresh)

    return figures, f"figures of {len(evaluation)} items, without the model's work"


def _optimizer(suite: OptimizerSuite, device: torch.device, _: Path) -> Work:
    layers = torch.nn.Sequential(*(torch.nn.Linear(2 * WIDTH, 2 * WIDTH) for _ in range(4))).to(device)
    for parameter in layers.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer = suite.make().build(dict(layers.named_parameters()))
    return optimizer.step, f"a step of {sum(p.numel() for p in layers.parameters()):,} parameters"


def _schedule(suite: Suite, _: torch.device, __: Path) -> Work:
    schedule = suite.make()
    return lambda: [schedule.factor(step, 1000) for step in range(1000)], "1000 factors"


def _procedure(suite: ProcedureSuite, device: torch.device, _: Path) -> Work:
    game, procedure = suite.game(device), suite.make()
    return lambda: game.play(procedure, 10), "10 iterations of a game"


def _perturbation(suite: PerturbationSuite, device: torch.device, _: Path) -> Work:
    made, model, m = suite.make(device=device), suite.model(device).train(), fabricate(suite.context(), ITEMS, lengths=LENGTHS).to(device)
    return lambda: made.perturbed(suite.cycle(model, m.batch())), f"perturbing {ITEMS} items, through stand-ins for the parts"


def _tracker(suite: TrackerSuite, _: torch.device, folder: Path) -> Work:
    recipe = load(TINY)

    def session() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as run:
            tracker = suite.make()
            tracker.open(Path(run), 0, recipe)
            for step in range(100):
                tracker.scalars({"loss/image_nll": 0.5, "lr/model": 1e-3}, step)
            tracker.close()

    return session, "opening, 100 steps of two figures, closing"


_WORK: Mapping[str, Callable[[Any, torch.device, Path], Work]] = {
    "loss": _loss,
    "dataset": _dataset,
    "tokenizer": _tokenizer,
    "metric": _metric,
    "optimizer": _optimizer,
    "schedule": _schedule,
    "procedure": _procedure,
    "perturbation": _perturbation,
    "tracker": _tracker,
}


def _suite(kind: str, name: str, options: Mapping[str, Any], surroundings: Mapping[str, Any]) -> Any:
    return type("Timed", (SUITES[kind],), {"component": name, "options": options, **surroundings})()


def _timed(call: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps([measure(task) for task in json.load(sys.stdin)]), encoding="utf-8")
