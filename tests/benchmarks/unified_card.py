"""A step of `recipes/llm/card.toml`'s model, 0.5 billion parameters in bf16, beside transformers' own Llama of that size, as a Markdown table.

    python -m tests.benchmarks.unified_card [--json FILE] [--batch N] [--tiny]

Both take forward, backward and fused AdamW on one card, on the same batch: as many places, with the same words and image tokens to predict
(`test_unified_step`). Each is measured as it is and compiled, in turns, in one process. It needs the extra `pretrained`, and a card with 40 GB or more. With
`--tiny` everything is small and runs on a CPU too, in seconds: that shows that the script works, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ibllm_core.recipe import load

from .test_unified_step import SMALL, Llama, Ours, places

RECIPE = Path(__file__).parents[2] / "recipes" / "llm" / "card.toml"
#: What ours may cost relative to Llama, both compiled.
BAR = 1.15
WARM, STEPS, ROUNDS = 3, 3, 5


def sizes(batch: int) -> dict[str, Any]:
    """Of the recipe's model; words and image tokens as many as a published model of this size has."""
    recipe = load(RECIPE)
    lm = recipe.model.shared["lm"].component.config
    wanted = {"depth": lm.depth, "heads": lm.heads, "ratio": lm.ratio, "width": recipe.width}  # type: ignore[attr-defined]
    return {**wanted, "batch": batch, "words": 8192, "codes": 8192, "text": 64, "side": 16}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def stepped(side: Ours | Llama, device: torch.device, compiled: bool) -> Callable[[], None]:
    """A step under bf16 autocast; the layers compiled, or as they are."""
    if compiled:
        module = side.model.parts["lm"] if isinstance(side, Ours) else side.model
        module.forward = torch.compile(module.forward)  # type: ignore[method-assign]

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            side.step()

    return step


def measure(size: dict[str, Any], device: torch.device, rounds: int, steps: int) -> dict[str, Any]:
    draws = torch.Generator().manual_seed(0)
    words = torch.randint(4, size["words"], (size["batch"], size["text"]), generator=draws).to(device)
    codes = torch.randint(size["codes"], (size["batch"], size["side"] ** 2), generator=draws).to(device)
    found: dict[str, Any] = {"size": size, "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"}
    for how, compiled in (("eager", False), ("compiled", True)):
        sides: dict[str, Ours | Llama] = {"ours": Ours(size, words, codes, device), "llama": Llama(size, words, codes, device)}
        found["parameters"] = {name: sum(p.numel() for p in side.model.parameters()) for name, side in sides.items()}
        found["places"] = {"ours": places(sides["ours"]), "llama": sides["llama"].ids.numel()}  # type: ignore[arg-type,union-attr]
        turns = {name: stepped(side, device, compiled) for name, side in sides.items()}
        for step in turns.values():
            for _ in range(WARM):
                step()
        spent: dict[str, list[float]] = {name: [] for name in turns}
        for round_ in range(rounds):
            for name in turns if round_ % 2 else reversed(turns):
                wait(device)
                started = time.perf_counter()
                for _ in range(steps):
                    turns[name]()
                wait(device)
                spent[name].append((time.perf_counter() - started) / steps)
        ratios = [a / b for a, b in zip(spent["ours"], spent["llama"], strict=True)]
        found[how] = {name: statistics.median(seconds) for name, seconds in spent.items()} | {"ratio": statistics.median(ratios)}
    return found


def table(found: dict[str, Any]) -> str:
    lines = ["| | ours, ms a step | Llama, ms a step | ours / Llama |", "| --- | --- | --- | --- |"]
    for how in ("eager", "compiled"):
        row = found[how]
        lines.append(f"| {how} | {1000 * row['ours']:.1f} | {1000 * row['llama']:.1f} | {row['ratio']:.3f} |")
    millions = {name: f"{count / 1e6:.0f} M" for name, count in found["parameters"].items()}
    lines += ["", f"{found['device']}; parameters {millions}; places a step {found['places']}; bar of the compiled ones: {BAR}"]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() and not given.tiny else "cpu")
    if device.type != "cuda" and not given.tiny:
        parser.error("there is no card here; --tiny shows that the script works")
    found = measure(SMALL, device, 1, 1) if given.tiny else measure(sizes(given.batch), device, ROUNDS, STEPS)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if given.tiny or found["compiled"]["ratio"] <= BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
