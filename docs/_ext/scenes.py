"""What worlds drawn by a trained run are worth, on `shapes`: their things and regions read back, and their seams.

``python docs/_ext/scenes.py RUN [RUN …]`` draws random worlds with each run and writes docs/measured/scenes.json and, from it, docs/measured/scenes.md.

The judge is the dataset's own reader; what the model itself reads stands beside it. A thing is right if the reader finds it, and it alone, in its cell of the
world as it was drawn, within `NEAR` pixels of its place; what is around things is judged with the regions. A *seam* lies between two neighbouring pixels that
different windows have a say in. Pairs of pixels on or near a thing are left out of both, so that its own edges do not make seams look small.

Shapes: H W the world's pixels, k windows.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ibllm_scene.plan import Box, Plan
from ibllm_scene.script import parse
from ibllm_scene.world import Scene, composer_of, draw
from ibllm_shapes.reader import NEIGHBOURHOOD, read
from ibllm_shapes.render import BACKGROUND, distances
from ibllm_shapes.scenes import COLOURS, SHAPES, SIZES

import ibllm
from ibllm_core.errors import Notice

FOLDER = Path(__file__).resolve().parents[1] / "measured"
#: Worlds a run, and their sizes in cells, in turn.
WORLDS, SIZES_IN_CELLS = 24, ((12, 2), (16, 2), (10, 4))
#: How far a thing's centre may be from its place, in pixels at size 32.
NEAR = 1.5


def random_script(rng: np.random.Generator, columns: int, rows: int, colours: int, forms: int) -> str:
    """Things anywhere on a lattice of half cells, so that about a half of them cross the edges of the windows that lie one a cell."""
    lines = [f"columns: {columns}", f"rows: {rows}"]
    for row in range(rows):
        place = first = float(rng.integers(0, 3)) / 2
        while place <= columns + first - 1:
            if rng.uniform() < 0.45:
                colour, shape = COLOURS[rng.integers(colours)], SHAPES[rng.integers(forms)]
                lines.append(f"{place % columns:g}, {row}: a {SIZES[rng.integers(2)]} {colour} {shape}")
                place += 1
            else:
                place += 0.5
    return "\n".join(lines)


def crosses(box: Box, cell: int) -> bool:
    """Whether an edge of a window that lies on whole cells goes through it."""
    return box.left % cell != 0


def right(scene: Scene, colours: int, forms: int) -> list[bool]:
    """Whether each thing is drawn as it was asked for and where."""
    plan, side = scene.plan, scene.plan.canvas[0]
    pictures = np.empty((len(plan.things), side, side, 3), dtype=np.uint8)
    pictures[:] = BACKGROUND
    for picture, thing in zip(pictures, plan.things, strict=True):
        box, low = thing.box, (side - thing.box.height) // 2
        columns = (box.left + np.arange(box.width)) % plan.width
        picture[low : low + box.height, low : low + box.width] = scene.pixels[box.top : box.top + box.height, columns]
    found = read(pictures, "free", colours, forms)
    named = [
        (SIZES[a], COLOURS[b], SHAPES[c]) for a, b, c in np.stack([found.scenes.size, found.scenes.colour, found.scenes.shape], -1)[:, 0]
    ]
    far = np.maximum(np.abs(found.scenes.x[:, 0] - side / 2), np.abs(found.scenes.y[:, 0] - side / 2))
    alike = [name == thing.thing for name, thing in zip(named, plan.things, strict=True)]
    return list(found.clean & (found.scenes.count == 1) & (far <= NEAR * side / 32) & alike)


def gradients(scene: Scene) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Absolute differences of neighbouring pixels, mean over channels, in grey values of 256: across seams, and inside."""
    plan = scene.plan
    says = _signature(plan)
    ground = _ground(plan)
    values = scene.pixels.astype(float)
    seams, inside = [], []
    for axis in (0, 1):

        def next_to(a: np.ndarray[Any, Any], axis: int = axis) -> np.ndarray[Any, Any]:
            return np.roll(a, -1, axis) if axis else a[1:]

        here = slice(None) if axis else slice(None, -1)
        step = np.abs(next_to(values) - values[here]).mean(axis=-1)
        seam = next_to(says) != says[here]
        both = ground[here] & next_to(ground)
        seams.append(step[seam & both])
        inside.append(step[~seam & both])
    return np.concatenate(seams), np.concatenate(inside)


def _ground(plan: Plan) -> np.ndarray[Any, Any]:
    """(H W) what is no thing nor its neighbourhood, as the dataset's reader has it."""
    ground = np.ones((plan.height, plan.width), dtype=bool)
    for thing in plan.things:
        box, (size, _, shape) = thing.box, thing.thing
        away = distances([SHAPES.index(shape)], [SIZES.index(size)], [0], [0], plan.canvas[0])[0]
        assert away.shape == (box.height, box.width)
        columns = (box.left + np.arange(box.width)) % plan.width
        ground[box.top : box.top + box.height, columns] &= away >= NEIGHBOURHOOD * plan.canvas[0] / 32
    return ground


def _signature(plan: Plan) -> np.ndarray[Any, Any]:
    """(H W) a number that tells which windows have a say in a pixel."""
    keys = np.random.default_rng(0).integers(2**40, size=len(plan.windows))
    total = np.zeros(plan.height * plan.width, dtype=np.int64)
    np.add.at(total, plan.pixels(), np.where(plan.weights > 0, keys[:, None, None], 0))
    return total.reshape(plan.height, plan.width)


def measure(path: Path, worlds: int = WORLDS, sizes: Sequence[tuple[int, int]] = SIZES_IN_CELLS) -> dict[str, Any]:
    """The figures of a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        run = ibllm.open(path)
        config, composer = run.recipe.data.config, composer_of(run)
        assert composer is not None and composer.grid is not None, "expected captions that name cells"
        things, regions, seams, inside = [], [], [], []
        together, windows = False, 0
        for number in range(worlds):
            rng = np.random.default_rng(number)
            script = parse(random_script(rng, *sizes[number % len(sizes)], config.colours, config.forms))
            scene = draw(run, script, seed=number)
            cell = scene.plan.canvas[1] // composer.grid[1]
            things += list(
                zip([crosses(thing.box, cell) for thing in scene.plan.things], right(scene, config.colours, config.forms), strict=True)
            )
            regions += [(region.agrees, region.shown) for region in scene.regions]
            for kept, found in zip((seams, inside), gradients(scene), strict=True):
                kept.append(found)
            together, windows = scene.together, windows + len(scene.plan.windows)
    seam, ground = np.concatenate(seams), np.concatenate(inside)
    crossing = [good for across, good in things if across]
    return {
        "recipe": run.recipe.name,
        "together": together,
        "worlds": worlds,
        "windows": windows,
        "things": len(things),
        "crossing": len(crossing),
        "things_right": float(np.mean([good for _, good in things])),
        "crossing_right": float(np.mean(crossing)),
        "regions": len(regions),
        "regions_read": float(np.mean([read for read, _ in regions])),
        "regions_right": float(np.mean([shown for _, shown in regions])),
        "seam_mean": float(seam.mean()),
        "inside_mean": float(ground.mean()),
        "seam_99": float(np.quantile(seam, 0.99)),
        "inside_99": float(np.quantile(ground, 0.99)),
        "seam_most": float(seam.max()),
        "inside_most": float(ground.max()),
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    rows: list[tuple[str, Any]] = [
        ("windows", lambda f: "denoised together" if f["together"] else "drawn singly, blended"),
        ("worlds, windows", lambda f: f"{f['worlds']}, {f['windows']}"),
        ("regions right, by the data's reader", lambda f: f"{100 * f['regions_right']:.1f} % of {f['regions']}"),
        ("regions right, as the model reads them", lambda f: f"{100 * f['regions_read']:.1f} %"),
        ("things right, by the data's reader", lambda f: f"{100 * f['things_right']:.1f} % of {f['things']}"),
        ("of these, things across windows' edges", lambda f: f"{100 * f['crossing_right']:.1f} % of {f['crossing']}"),
        ("gradient across seams, inside: mean", lambda f: f"{f['seam_mean']:.2f}, {f['inside_mean']:.2f}"),
        ("99 % are below", lambda f: f"{f['seam_99']:.2f}, {f['inside_99']:.2f}"),
        ("greatest", lambda f: f"{f['seam_most']:.2f}, {f['inside_most']:.2f}"),
    ]
    head = ["| |" + "|".join(f" `{f['recipe']}` " for f in found) + "|", "| --- |" + " --- |" * len(found)]
    return "\n".join([*head, *(f"| {name} |" + "|".join(f" {show(f)} " for f in found) + "|" for name, show in rows), ""])


def main(paths: Sequence[str]) -> None:
    found = [measure(Path(path)) for path in paths]
    (FOLDER / "scenes.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (FOLDER / "scenes.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
