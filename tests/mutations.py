"""Breaks the product in known ways, one at a time, in a copy of the tree, and tells which test catches it. ``python tests/mutations.py [NAME …]``.

The tests of what was broken are run first, then, unless ``--first`` is given, all others; the first failure ends it, and so do five minutes.
What nobody catches needs a test.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
#: Seconds that one may take.
PATIENCE = 300.0
COPIED = ("ibllm_core", "plugins", "tests", "recipes", "docs")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class Mutation(NamedTuple):
    """`old`, which stands in `file` once, becomes `new`; `tests` are run first."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "a wrong sign in a loss",
        "plugins/ibllm_adversarial/loss.py",
        "return F.softplus(real - fake).mean()",
        "return F.softplus(fake - real).mean()",
        ("tests/losses/test_adversarial.py",),
    ),
    Mutation(
        "a factor of two in a penalty",
        "plugins/ibllm_adversarial/penalty.py",
        "return self.config.gamma / 2 * ",
        "return self.config.gamma * ",
        ("tests/losses/test_penalties.py",),
    ),
    Mutation(
        "a critic that trains the generator",
        "plugins/ibllm_adversarial/loss.py",
        "real, fake = self.score_real(cycle, y), self.score_fake(cycle, self.fake(cycle).detach())",
        "real, fake = self.score_real(cycle, y), self.score_fake(cycle, self.fake(cycle))",
        ("tests/losses/test_adversarial.py", "tests/conformance/test_loss.py"),
    ),
    Mutation(
        "a token too many in a mean",
        "plugins/ibllm_objectives/likelihood.py",
        "self.tokens(cycle).mask[:, 1:].sum()",
        "self.tokens(cycle).mask.sum()",
        ("tests/losses/test_objectives.py",),
    ),
    Mutation(
        "λ on the wrong term",
        "plugins/ibllm_objectives/joint.py",
        "cycle.value(self.config.text) + cycle.at(lambda _: self.weight) * cycle.value(self.config.image)",
        "cycle.at(lambda _: self.weight) * cycle.value(self.config.text) + cycle.value(self.config.image)",
        ("tests/losses/test_objectives.py",),
    ),
    Mutation(
        "a dropped mask",
        "plugins/ibllm/blocks/attention.py",
        "bias = torch.where(mask, 0.0, -torch.inf).to(dtype)",
        "bias = torch.zeros_like(mask, dtype=dtype)",
        ("tests/conformance/test_text_encoder.py",),
    ),
    Mutation(
        "a stale cache",
        "plugins/ibllm/blocks/cache.py",
        "            values.scatter_(2, place, value)\n",
        "            pass\n",
        ("tests/parts/test_transformer.py", "tests/conformance/test_text_decoder.py"),
    ),
    Mutation(
        "swapped splits",
        "plugins/ibllm_shapes/dataset.py",
        "scenes = self.sampler.by(config).scenes(split, indices)",
        'scenes = self.sampler.by(config).scenes({"validation": "test", "test": "validation"}.get(split, split), indices)',
        ("tests/shapes", "tests/conformance/test_dataset.py"),
    ),
    Mutation(
        "held-out pairs that are trained on",
        "plugins/ibllm_shapes/dataset.py",
        "scenes = self.sampler.by(config).scenes(split, indices)",
        'scenes = self.sampler.by(config).scenes("test" if split == "novel" else split, indices)',
        ("tests/shapes", "tests/conformance/test_dataset.py"),
    ),
    Mutation(
        "an average that restarts",
        "ibllm_core/model/players.py",
        "self.steps[owner] += 1",
        "self.steps[owner] = 1",
        ("tests/training/test_average.py", "tests/training/test_stage.py"),
    ),
    Mutation(
        "an order that is the same in every epoch",
        "ibllm_core/training/feeding.py",
        "mix(mix(epochs + key)",
        "mix(mix(0 * epochs + key)",
        ("tests/training/test_data.py",),
    ),
    Mutation(
        "a seed that is not used",
        "plugins/ibllm/blocks/streams.py",
        "randomness.mix(np.uint64(randomness.derive_key(*key)) + ",
        "randomness.mix(np.uint64(randomness.derive_key(*key[1:])) + ",
        ("tests/shapes", "tests/training/test_data.py"),
    ),
    Mutation(
        "noise by place in the batch",
        "plugins/ibllm/blocks/streams.py",
        "numbers = np.atleast_1d(np.asarray(samples)).astype(np.uint64)",
        "numbers = np.arange(len(np.atleast_1d(np.asarray(samples)))).astype(np.uint64)",
        ("tests/conformance/test_dataset.py", "tests/training/test_data.py"),
    ),
    Mutation(
        "a checkpoint that is not synced",
        "ibllm_core/runs/directory.py",
        '            for written in (*partial.rglob("*"), partial):\n                sync(written)\n',
        "",
        ("tests/training/test_checkpoint.py",),
    ),
    Mutation(
        "a damaged checkpoint that is taken",
        "ibllm_core/training/checkpoints.py",
        "if _sha256(folder / name) != digest]",
        "if not (folder / name).exists()]",
        ("tests/training/test_checkpoint.py",),
    ),
    Mutation(
        "a procedure that forgets at a restart",
        "plugins/ibllm_procedures/procedure.py",
        "        return self._slow\n",
        "        return {}\n",
        ("tests/conformance/test_procedure.py", "tests/procedures"),
    ),
    Mutation(
        "gradients of ranks that are not averaged",
        "ibllm_core/model/stage.py",
        "with engine.micro_batch(last=number == count):",
        "with engine.micro_batch(last=False):",
        ("tests/training/test_distributed.py",),
    ),
    Mutation(
        "an off-by-one schedule",
        "plugins/ibllm_optim/schedule.py",
        "return min(1.0, (step + 1) / warmup) if warmup else 1.0",
        "return min(1.0, step / warmup) if warmup else 1.0",
        ("tests/optim/test_schedules.py",),
    ),
    Mutation(
        "a best weight that is the worst",
        "ibllm_core/model/stage.py",
        "sign = -1.0 if less else 1.0",
        "sign = 1.0",
        ("tests/training/test_validation_state.py",),
    ),
    Mutation(
        "a figure's direction",
        "plugins/ibllm_metrics/config.py",
        'meaning, caution=self._caution(), better="lower"),)',
        'meaning, caution=self._caution(), better="higher"),)',
        ("tests/metrics",),
    ),
    Mutation(
        "an off-by-one rank",
        "plugins/ibllm_metrics/matching.py",
        "np.clip((k - above) / (level + 1), 0.0, 1.0)",
        "np.clip((k + 1 - above) / (level + 1), 0.0, 1.0)",
        ("tests/metrics/test_matching.py",),
    ),
    Mutation(
        "a p-value uncorrected",
        "plugins/ibllm_study/statistics/paired.py",
        "p_permutation_holm=p_flip,",
        "p_permutation_holm=member.p_permutation,",
        ("tests/study/test_statistics.py",),
    ),
    Mutation(
        "a half of a file",
        "ibllm_core/runs/directory.py",
        "            os.replace(partial, path)\n",
        "            (shutil.copytree if partial.is_dir() else shutil.copy)(partial, path)\n            remove(partial)\n",
        ("tests/training/test_checkpoint.py", "tests/training/test_run_command.py"),
    ),
    Mutation(
        "a division by the names of images",
        "plugins/ibllm_files/loading.py",
        "what, split = facts.contents[number] if number >= 0 else record.caption, record.split",
        "what, split = record.image.name if record.image is not None else record.caption, record.split",
        ("tests/files/test_odd_inputs.py",),
    ),
    Mutation(
        "a vocabulary of the first captions",
        "plugins/ibllm_files/dataset.py",
        "for record, _ in self._items(split)[:limit]]",
        "for record, _ in self._items(split)[: limit or 4096]]",
        ("tests/files/test_files.py",),
    ),
    Mutation(
        "paths that lead out of the data",
        "plugins/ibllm_files/trees.py",
        'return name.startswith("/") or ',
        "return ",
        ("tests/files/test_odd_inputs.py",),
    ),
    Mutation(
        "a rule's assignments counted by half",
        "plugins/ibllm_logic/semantics.py",
        "so * values[yes] + (1 - so) * values[no]",
        "so * values[yes]",
        ("tests/logic/test_semantics.py",),
    ),
    Mutation(
        "words given to the wrong noun",
        "plugins/ibllm_logic/reading.py",
        "last_one = (before - 1).unsqueeze(-1) == slots",
        "last_one = before.unsqueeze(-1) == slots",
        ("tests/logic/test_semantics.py",),
    ),
    Mutation(
        "a graph that may tell what is held out",
        "plugins/ibllm_graph/audit.py",
        "new - seen, new_pairs - together",
        "new - seen, set()",
        ("tests/graph/test_knowledge.py",),
    ),
)


def flaws(mutation: Mutation) -> str:
    """Why it cannot be made; empty where it can."""
    path = ROOT / mutation.file
    if not path.is_file():
        return f"{mutation.name}: there is no {mutation.file}"
    if (count := path.read_text(encoding="utf-8").count(mutation.old)) != 1:
        return f"{mutation.name}: what it replaces stands {count} times in {mutation.file}"
    missing = [test for test in mutation.tests if not (ROOT / test).exists()]
    return f"{mutation.name}: there is no {', '.join(missing)}" if missing else ""


def run(tree: Path, words: Sequence[str], seconds: float) -> tuple[str, str]:
    """The test that fails first, or why there is none; and what pytest said."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "plugins")]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *words]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        return "", f"not done after {PATIENCE:g} s"
    found = _FAILED.search(done.stdout)
    return (found[1] if found else ""), done.stdout[-2000:] + done.stderr[-1000:]


def caught(mutation: Mutation, first_only: bool) -> str:
    """The test that catches it; empty where none does."""
    with tempfile.TemporaryDirectory(prefix="ibllm-mutation-") as folder:
        tree, began = Path(folder), time.monotonic()
        for name in COPIED:
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "_build"))
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy(path, tree)
        broken = tree / mutation.file
        broken.write_text(broken.read_text(encoding="utf-8").replace(mutation.old, mutation.new), encoding="utf-8")
        found, said = run(tree, ["-n", "0", *mutation.tests], PATIENCE)
        if not found and not first_only:
            found, said = run(tree, ["-n", "auto", "tests"], PATIENCE - (time.monotonic() - began))
        if not found:
            print(said, file=sys.stderr)
        return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Breaks the product in known ways, one at a time, and says which test caught it.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="the mutations; by default all")
    parser.add_argument("--first", action="store_true", help="run the broken module's own tests alone, not the whole suite after them")
    given = parser.parse_args(arguments)
    first_only, names = given.first, given.names
    unknown = sorted(set(names) - {mutation.name for mutation in MUTATIONS})
    problems = [f"no mutation is called {name!r}" for name in unknown] + [flaw for one in MUTATIONS if (flaw := flaws(one))]
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    survived = 0
    for mutation in MUTATIONS:
        if names and mutation.name not in names:
            continue
        began = time.monotonic()
        test = caught(mutation, first_only)
        survived += not test
        print(f"{mutation.name}: {test or 'NOT CAUGHT'} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
