"""Attacks at an equal number of questions, agents among them, and what hardening by an agent's samples is worth.

``python docs/_ext/adversarial.py RUN`` takes a run of recipes/joint.toml (a copy: attacks are kept in it) and writes docs/measured/adversarial.json and, from
it, adversarial.md and adversarial.png. It needs stable-baselines3. Four minutes of one core.

A *question* is one forward pass of the model; PGD, which follows gradients, has a backward pass with each of its own. An item counts where the model reads it
as its caption before anything is done to it; it is *fooled* where the model then writes another text. Perturbed images are rounded to whole levels.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ibllm_attack.agents import Agent, play_out, random_policy
from ibllm_attack.attacking import Attack
from ibllm_attack.baselines import train
from ibllm_attack.games import Games, Rules
from ibllm_attack.measuring import measure, rows_of
from ibllm_attack.strengths import Strength
from ibllm_attack.targets import ImageTarget

import ibllm
from ibllm_core.errors import Notice
from ibllm_core.interfaces.batch import take

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "measured"
#: Questions an item, items that are attacked, steps of environments that agents are trained for: at each strength, and in each round.
BUDGET, ITEMS, STEPS, STEPS_A_ROUND = 32, 64, 16_384, 10_240
EPSILONS = ("1/255", "2/255")
#: Of the rounds attack → harden: how often, at which strength, with how many saved items, and how many steps a hardening takes.
ROUNDS, STRENGTH, SAVED, HARDENING = 2, "2/255", 512, 150
RULES: dict[str, Any] = {"budget": BUDGET, "stride": 1.0, "price": 0.1}
PATCH = 4


def value(epsilon: str) -> float:
    a, _, b = epsilon.partition("/")
    return float(a) / float(b)


def greedy(target: ImageTarget, rules: Rules, rows: Any, seed: int) -> Any:
    """Random steps from the worst so far, kept where the loss rises: (b) whether the model was fooled."""
    games, chance = Games(target, rules, len(rows)), np.random.default_rng(seed)
    games.begin(np.arange(len(rows)), rows)
    fooled = np.zeros(len(rows), bool)
    for _ in range(rules.budget):
        before, loss, seen = games.change.copy(), games.loss.copy(), games.visibility.copy()
        played = games.play(chance.uniform(-1, 1, (len(rows), target.actions)).astype(np.float32))
        worse = played.loss > loss
        games.change[~worse | fooled], games.loss[~worse], games.visibility[~worse] = before[~worse | fooled], loss[~worse], seen[~worse]
        fooled |= played.fooled
    return fooled


def by_component(run: Any, target: ImageTarget, use: str, epsilon: str, options: dict[str, Any]) -> Any:
    """(b) whether an attack of the kind perturbation fooled the model."""
    attack = Attack(run, "image", use, "captioning", 0, options)
    perturbation = attack.at(Strength(epsilon, value(epsilon)))
    samples, fooled = take(run.dataset, "novel", target.indices), []
    for start in range(0, len(samples), 32):
        rows = np.arange(start, min(start + 32, len(samples)))
        found = attack.attack(perturbation, rows_of(samples, slice(start, start + 32)), target.indices[rows], 0)
        fooled.append(target.judge(found.images.astype(np.float32), rows).fooled)
    return np.concatenate(fooled)


def compare(path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Attack → strength → the share fooled."""
    run = ibllm.open(path, device="cpu")
    target, trained_on = ImageTarget(run, "novel", ITEMS, PATCH), ImageTarget(run, "train", 512, PATCH)
    rows, found = np.arange(len(target)), dict[str, dict[str, Any]]()
    for epsilon in EPSILONS:
        rules = Rules(epsilon=value(epsilon), **RULES)

        def add(name: str, fooled: Any, epsilon: str = epsilon) -> None:
            found.setdefault(name, {})[epsilon] = float(np.mean(fooled))
            say(f"{name} at {epsilon}: {100 * np.mean(fooled):.1f} %")

        add("noise", by_component(run, target, "noise", epsilon, {}))
        add("random steps", play_out(target, rules, random_policy(target.actions, 0), rows).fooled)
        add("greedy", greedy(target, rules, rows, 0))
        agent = train(target=trained_on, steps=STEPS, epsilon=value(epsilon), **RULES)
        add("PPO", play_out(target, rules, agent, rows).fooled)
        add("square", by_component(run, target, "square", epsilon, {"queries": BUDGET}))
        add("PGD", by_component(run, target, "pgd", epsilon, {"steps": BUDGET - 1}))
    return {"items": len(target), "attacks": found}


def harden(path: Path, folder: Path, number: int, agent: Agent) -> Path:
    """The next run: the last one, trained on with what an agent's attack on it left."""
    from ibllm_cli.main import main

    agent.save(folder / "agent.safetensors")
    saved, run = folder / f"attacked-{number}", folder / f"hardened-{number}"
    words = [
        "--split",
        "train" if number == 1 else "clean",
        "--items",
        str(SAVED),
        "--image.epsilon",
        STRENGTH,
        "--agent",
        str(folder / "agent.safetensors"),
    ]
    assert main(["attack", str(path), *words, "--save", str(saved), "--json"]) == 0
    sets = {
        "data.path": str(saved),
        "init.run": str(path),
        "stages.image.steps": HARDENING,
        "compute.threads": 1,
        "evaluation.items": 64,
        "evaluation.splits": ["novel"],
    }
    recipe = ROOT / "recipes" / "adversarial" / "gym.toml"
    words = [word for key, one in sets.items() for word in ("--set", f"{key}={json.dumps(one)}")]
    assert main(["run", str(recipe), "--run-dir", str(run), *words]) == 0
    return run


def state(path: Path, agent: Agent) -> dict[str, float]:
    """The share of captions right of novel items: clean, attacked by an agent, by square with 200 questions and by APGD-20."""
    run = ibllm.open(path, device="cpu")
    target = ImageTarget.of_samples(run, take(run.dataset, "novel", np.arange(ITEMS)), PATCH)
    rows = np.arange(len(target))
    rules = Rules(epsilon=value(STRENGTH), **RULES)
    found = {"clean": 1 - float(target.judge(target.clean(rows), rows).fooled.mean())}
    found["agent"] = 1 - float(target.judge(play_out(target, rules, agent, rows).items, rows).fooled.mean())
    for use in ("square", "apgd"):
        attack = Attack(run, "image", use, "captioning", 0)
        measured = measure(
            attack, [Strength("0", 0), Strength(STRENGTH, value(STRENGTH))], "novel", ITEMS, run.recipe.seed.evaluation, False
        )
        found[use] = measured.curve.figures["caption_exact"][1]
    return found


def loop(path: Path, folder: Path, say: Callable[[str], None]) -> list[dict[str, float]]:
    """What the model withstands before and after each hardening, each time attacked by an agent that learned on it as it is."""
    found = []
    for number in range(ROUNDS + 1):
        agent = train(path, split="train", items=512, patch=PATCH, steps=STEPS_A_ROUND, seed=number, epsilon=value(STRENGTH), **RULES)
        found.append(state(path, agent))
        say(f"round {number}: {found[-1]}")
        if number < ROUNDS:
            path = harden(path, folder, number + 1, agent)
    return found


def table(found: dict[str, Any]) -> str:
    """Both tables, as Markdown."""
    compared, about = found["compare"], found["about"]
    head = [f"fooled at ε = {epsilon}" for epsilon in EPSILONS]
    lines = [f"| attack, at most {about['budget']} questions | {' | '.join(head)} |", "| --- |" + " --- |" * len(head)]
    for name, by in compared["attacks"].items():
        lines.append(f"| {name} | {' | '.join(f'{100 * by[e]:.1f} %' for e in EPSILONS)} |")
    lines += ["", f"{compared['items']} items of `novel`; {about['seconds'] / 60:.0f} minutes of one core for both tables.", ""]
    names = {"clean": "as it is", "agent": "its own agent", "square": "square, 200 questions", "apgd": "APGD-20"}
    lines += [f"| captions right, ε = {STRENGTH} | {' | '.join(names.values())} |", "| --- |" + " --- |" * len(names)]
    for number, row in enumerate(found["loop"]):
        label = "`joint`" if not number else f"hardened {number}×"
        lines.append(f"| {label} | {' | '.join(f'{100 * row[name]:.1f} %' for name in names)} |")
    return "\n".join(lines) + "\n"


def picture(found: dict[str, Any], path: Path) -> None:
    """The curve over the rounds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    labels = {"clean": "as it is", "agent": "its own agent", "square": "square, 200 questions", "apgd": "APGD-20"}
    for (name, label), marker in zip(labels.items(), "os^D", strict=True):
        axes.plot([100 * row[name] for row in found["loop"]], marker=marker, label=label)
    axes.set_xticks(range(len(found["loop"])), ["joint", *(f"hardened {k}×" for k in range(1, len(found["loop"])))])
    axes.set_ylabel(f"captions right, %, at ε = {STRENGTH}")
    axes.set_ylim(-2, 104)
    axes.grid(alpha=0.4)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(path: Path) -> None:
    import torch

    warnings.simplefilter("ignore", Notice)
    torch.set_num_threads(1)
    start = time.process_time()

    def say(text: str) -> None:
        print(f"{time.process_time() - start:6.0f} s  {text}", file=sys.stderr, flush=True)

    found: dict[str, Any] = {"compare": compare(path, say)}
    found["about"] = {"budget": BUDGET, "steps": STEPS, "steps_a_round": STEPS_A_ROUND, "saved": SAVED, "hardening": HARDENING}
    with tempfile.TemporaryDirectory() as folder:
        found["loop"] = loop(path, Path(folder), say)
    found["about"] = {
        "budget": BUDGET,
        "steps": STEPS,
        "steps_a_round": STEPS_A_ROUND,
        "saved": SAVED,
        "seconds": time.process_time() - start,
    }
    (FOLDER / "adversarial.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write()


def write() -> None:
    """The table and the curve of what was measured."""
    found = json.loads((FOLDER / "adversarial.json").read_text(encoding="utf-8"))
    (FOLDER / "adversarial.md").write_text(table(found), encoding="utf-8")
    picture(found, FOLDER / "adversarial.png")


if __name__ == "__main__":
    main(Path(sys.argv[1])) if len(sys.argv) > 1 else write()
