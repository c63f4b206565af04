"""The picture of the core's rooms in ``docs/architecture.svg``, drawn from the imports. ``python docs/_ext/house.py`` writes it anew."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "architecture.svg"
#: The rooms from the top: each may import what is below it.
ROOMS = ("training", "runs", "model", "recipe", "interfaces", "host")

#: Sizes in pixels: a room's box, the space between two, the margin, and how much wider each further arc is.
WIDTH, HEIGHT, GAP, MARGIN, STEP = 664, 46, 18, 16, 18
_STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:13px;fill:#1f2937}.name{font-weight:600;font-size:15px}.small{font-size:12px;fill:#4b5563}"
    "rect{fill:#f3f4f6;stroke:#6b7280}path{fill:none;stroke-width:1.4}.paper{fill:#fff;stroke:none}"
)
#: Each room's arrows have a colour of their own (Okabe and Ito 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#000000")


def imports() -> dict[str, tuple[str, ...]]:
    """Room → the rooms that its modules import when they run, those for type checking left out; from the top."""
    import grimp

    graph = grimp.build_graph("ibllm_core", exclude_type_checking_imports=True, cache_dir=None)
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module in graph.modules:
        room = _room(module)
        if room:
            found[room] |= {other for name in graph.find_modules_directly_imported_by(module) if (other := _room(name)) and other != room}
    return {room: tuple(other for other in ROOMS if other in found[room]) for room in ROOMS}


def _room(module: str) -> str:
    """``ibllm_core.model.cycle`` → ``model``; empty for what is in no room."""
    _, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    return name if name in ROOMS else ""


def sentence(room: str) -> str:
    """What a room is for: the first sentence of its own docstring."""
    text = ast.get_docstring(ast.parse((ROOT / "ibllm_core" / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    return " ".join(text.split()).partition(". ")[0].rstrip(".").replace("`", "")


def draw(arrows: Mapping[str, Sequence[str]]) -> str:
    """The rooms one above the other; an arc for each that imports another."""
    top = {room: MARGIN + 30 + k * (HEIGHT + GAP) for k, room in enumerate(ROOMS)}
    pairs = sorted(((a, b) for a, others in arrows.items() for b in others), key=lambda pair: (top[pair[1]] - top[pair[0]], top[pair[0]]))
    height, width = top[ROOMS[-1]] + HEIGHT + MARGIN, WIDTH + 2 * MARGIN + 60 + STEP * len(pairs) // 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'aria-label="The rooms of ibllm_core and what each imports">',
        f'<style>{_STYLE}</style><rect class="paper" width="{width}" height="{height}"/>',
        f'<text class="small" x="{MARGIN}" y="{MARGIN + 8}">ibllm_core: an arrow from a room to each room that it imports; none runs back up</text>',
    ]
    for room in ROOMS:
        lines += [
            f'<rect x="{MARGIN}" y="{top[room]}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
            f'<text class="name" x="{MARGIN + 12}" y="{top[room] + 19}">{room}</text>',
            f'<text class="small" x="{MARGIN + 12}" y="{top[room] + 37}">{escape(sentence(room))}</text>',
        ]
    leaving, arriving = _ports(pairs, top)
    for reach, pair in enumerate(pairs):
        x, out, into = MARGIN + WIDTH, leaving[pair], arriving[pair]
        bend = x + 26 + STEP * reach // 2
        colour, curve = _COLOURS[ROOMS.index(pair[0])], f"M{x} {out} C{bend} {out} {bend} {into} {x + 7} {into}"
        lines.append(f'<path stroke="{colour}" d="{curve}"><title>{pair[0]} → {pair[1]}</title></path>')
        lines.append(f'<path style="fill:{colour}" d="M{x} {into} l8 -3.5 v7 z"/>')
    return "\n".join([*lines, "</svg>", ""])


def _ports(pairs: Sequence[tuple[str, str]], top: Mapping[str, int]) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """At what height each arrow leaves and arrives: spread over the box's side, leaving below arriving."""
    leaving: dict[tuple[str, str], int] = {}
    arriving: dict[tuple[str, str], int] = {}
    for room in top:
        outgoing = [pair for pair in pairs if pair[0] == room]
        incoming = [pair for pair in pairs if pair[1] == room]
        for places, which, first in ((leaving, outgoing, HEIGHT * 5 // 9), (arriving, incoming, 4)):
            for k, pair in enumerate(sorted(which, key=lambda pair: -pairs.index(pair) if which is outgoing else pairs.index(pair))):
                places[pair] = top[room] + first + (HEIGHT * 4 // 9 - 4) * (k + 1) // (len(which) + 1)
    return leaving, arriving


if __name__ == "__main__":
    PICTURE.write_text(draw(imports()), encoding="utf-8")
