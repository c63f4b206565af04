"""Random recipes, killed and resumed, for as long as asked: what did they meet? ``python tests/soak.py --minutes 60 --report soak.json``

A recipe is drawn from the product of all parts, losses, optimizers, schedules, procedures and perturbations that are registered, made small, and with
stages and settings drawn too. `ibllm check` has to accept it or to refuse it with a message. What is accepted is trained by the command line, killed at
random operations on its files, resumed, and has to end with the bits of the same run that was left alone. Every fault is written down with its recipe.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.fuzz import written  # noqa: E402
from tests.integration.lasting import Lasting, differences, fork, prepare, state, wait  # noqa: E402

TINY = ROOT / "tests" / "training" / "lasting.toml"
#: Kinds that a recipe has one of, and where they stand.
SLOTS = {
    "text_encoder": "model.text_encoder",
    "image_decoder": "model.image_decoder",
    "image_encoder": "model.image_encoder",
    "text_decoder": "model.text_decoder",
    "discriminator": "model.discriminator",
    "optimizer": "optimizer",
    "procedure": "procedure",
    "tokenizer": "tokenizers.text",
}
#: Options that make a component small, where it has them.
SMALL = {"depth": 1, "heads": 2, "patch": 8, "layers": 1, "hidden": 16, "codes": 16, "steps": 2, "size": 96, "max_length": 32}
#: Seconds after which a run is given up.
PATIENCE = 240.0


def components() -> dict[str, list[str]]:
    """Kind → the names of all that is registered, can be used here, and can be built without an option that only its user knows."""
    from ibllm_core.host.manager import manager
    from ibllm_core.recipe.words import keys

    found: dict[str, list[str]] = {}
    for row in manager().rows():
        if row.status == "ok" and row.kind:
            needed = {key for key, field in keys(manager().config_class(row.kind, row.name)).items() if field.default is attrs.NOTHING}
            if needed <= SMALL.keys():
                found.setdefault(row.kind, []).append(row.name)
    return {kind: sorted(names) for kind, names in found.items()}


def options(kind: str, name: str, chance: random.Random) -> dict[str, Any]:
    """Options that make a component small where it has them, some of the others at values that differ from the default."""
    from ibllm_core.host.manager import manager
    from ibllm_core.recipe.words import keys

    table: dict[str, Any] = {"use": name}
    for key, field in keys(manager().config_class(kind, name)).items():
        if key in SMALL and (field.default is attrs.NOTHING or type(field.default) is int):
            table[key] = SMALL[key]
        elif isinstance(field.default, bool) and chance.random() < 0.2:
            table[key] = not field.default
        elif isinstance(field.default, float) and 0 < field.default < 1 and chance.random() < 0.2:
            table[key] = round(field.default * chance.uniform(0.5, 1.0), 4)
    return table


def drawn(chance: random.Random, known: dict[str, list[str]]) -> dict[str, Any]:
    """Tables of a random recipe: the tests' lasting one with some of its components in another's place, further losses, and other settings."""
    from ibllm_core.recipe import load

    tables: dict[str, Any] = tomllib.loads(load(TINY).source)
    tables.pop("name", None)
    for kind in chance.sample(sorted(SLOTS), chance.choice([0, 1, 1, 2])):
        *path, last = SLOTS[kind].split(".")
        within = tables
        for step in path:
            within = within.setdefault(step, {})
        within[last] = options(kind, chance.choice(known[kind]), chance)
    stages = tables["stages"]
    for loss in chance.sample(known["loss"], chance.choice([0, 1, 1, 2, 3])):
        name = f"drawn_{loss}"
        tables["losses"][name] = options("loss", loss, chance)
        stages[chance.choice(sorted(stages))]["losses"][name] = round(chance.uniform(0.01, 1.0), 3)
    for stage in stages.values():
        if chance.random() < 0.3:
            stage["schedule"] = {"use": chance.choice(known["schedule"])}
        if chance.random() < 0.15 and known.get("perturbation"):
            stage["perturb"] = {"use": chance.choice(known["perturbation"])}
        if chance.random() < 0.2:
            stage["lr"] = {"use": "cosine", "from": 1.0, "to": 0.1}
    training = tables["training"]
    training |= {"batch": chance.choice([2, 4, 8]), "ema": chance.choice([0.0, 0.9]), "clip": chance.choice([0.0, 1.0])}
    training |= {
        "accumulate": chance.choice([1, 1, 1, 2]),
        "checkpoint_every": chance.choice([1, 2, 3]),
        "log_every": chance.choice([1, 2]),
    }
    tables["seed"] = chance.randrange(1000)
    if chance.random() < 0.2:
        tables["compute"]["workers"] = 2
    return tables


class Soak:
    """Plays recipes until time is up, and counts what became of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance, self.known = folder, random.Random(seed), components()
        self.met: Counter[str] = Counter()
        self.used: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.faults: list[dict[str, Any]] = []

    def once(self, number: int) -> str:
        """One recipe; what became of it."""
        folder = self.folder / f"{number:04}"
        folder.mkdir()
        recipe, log = folder / "recipe.toml", folder / "log.txt"
        tables = drawn(self.chance, self.known)
        recipe.write_text(written({"name": f"soak-{number}", **tables}), encoding="utf-8")
        code = wait(fork(["check", str(recipe)], log), PATIENCE)
        if code == 2:
            self.refusals[self.reason(log)] += 1
            return self.judged(folder, "refused", "Traceback" in log.read_text(encoding="utf-8"))
        if code:
            return self.judged(folder, f"check: exit code {code}", True)
        lasting = Lasting(folder, recipe)
        (code,) = lasting.play(folder / "whole")
        if code:
            said = lasting.said()
            explained = code == 2 and "Traceback" not in said and "Tell its maintainer" not in said
            self.refusals[self.reason(log)] += 1
            return self.judged(folder, "accepted, and failed in training with a message" if explained else f"run: exit code {code}", True)
        expected, run, kills = state(folder / "whole"), folder / "run", self.chance.randint(1, 3)
        for _ in range(kills):
            codes = lasting.play(run, f"KILL@touch:{self.chance.randint(1, 300)}")
            if codes == [0]:
                break
        (code,) = lasting.play(run)
        off = [f"exit code {code}"] if code else differences(state(run), expected)
        self.used.update(f"{kind}.{name}" for kind, name in uses(tables))
        return self.judged(
            folder, f"killed and resumed: {', '.join(off)} differ" if off else "killed and resumed: the same bits", bool(off)
        )

    def reason(self, log: Path) -> str:
        """The first mistake that was told."""
        lines = [line.strip().replace(str(log.parent), "") for line in log.read_text(encoding="utf-8").splitlines()]
        told = [line for line in lines if line and not line.startswith("warning") and "cannot be run as it stands" not in line]
        return next((line for line in told if line.startswith(("error", "internal"))), (told or [""])[0])[:200]

    def judged(self, folder: Path, what: str, fault: bool) -> str:
        self.met[what] += 1
        if fault:
            log = (folder / "log.txt").read_text(encoding="utf-8")
            self.faults.append({"what": what, "recipe": (folder / "recipe.toml").read_text(encoding="utf-8"), "log": log[-3000:]})
        shutil.rmtree(folder)
        return what

    def report(self) -> dict[str, Any]:
        return {
            "recipes": self.met.total(),
            "met": dict(self.met),
            "components that were trained, killed and resumed": len(self.used),
            "registered": sum(map(len, self.known.values())),
            "used": dict(self.used.most_common()),
            "refusals": dict(self.refusals.most_common(40)),
            "faults": self.faults,
        }


def uses(tables: Any, key: str = "") -> list[tuple[str, str]]:
    """(where, name) of every component that a recipe names."""
    if not isinstance(tables, dict):
        return []
    own = [(key, tables["use"])] if isinstance(tables.get("use"), str) else []
    return own + [
        found for name, table in tables.items() for found in uses(table, key if key in ("losses", "metrics", "trackers") else name)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="a JSON file")
    given = parser.parse_args()
    prepare()
    until, number = time.monotonic() + 60 * given.minutes, 0
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(Path(folder), given.seed)
        while time.monotonic() < until:
            print(f"{number:4} {soak.once(number)}", flush=True)
            number += 1
    found = soak.report()
    if given.report:
        given.report.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in found.items() if key not in ("faults", "used")}, indent=2, ensure_ascii=False))
    for fault in found["faults"]:
        print(f"\n{fault['what']}: {fault['log'][-500:]}")
    return bool(found["faults"])


if __name__ == "__main__":
    sys.exit(main())
