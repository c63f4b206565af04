"""What metrics and plugins add to a report: kept in the run directory, ``panels/panels.json`` and a PNG a picture, and read from there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from ibllm_core.interfaces.reporting import PLACES, Panel
from ibllm_core.runs.directory import write_json

from .files import Picture, objects, read_object, read_picture

#: In the run directory.
FOLDER, LIST = "panels", "panels.json"


@attrs.frozen(kw_only=True)
class PanelView:
    """A panel as the page shows it; what it does not have is empty or None."""

    title: str
    place: str
    source: str
    paragraphs: Sequence[str]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[bool]
    picture: Picture | None
    alt: str


def write_panels(run_dir: Path, panels: Iterable[Panel]) -> None:
    """Keeps panels in the run directory, in the place of those that are there; nothing where there are none."""
    from PIL import Image

    entries = []
    for number, panel in enumerate(panels):
        (run_dir / FOLDER).mkdir(exist_ok=True)
        name = None
        if panel.picture is not None:
            name, pixels = f"panel-{number}.png", panel.picture
            Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(run_dir / FOLDER / name)
        rows = [[_shown(cell) for cell in row] for row in panel.rows]
        numbers = [all(isinstance(row[k], int | float) for row in panel.rows) for k in range(len(panel.header))]
        words = {"title": panel.title, "place": panel.place, "source": panel.source, "text": panel.text, "alt": panel.alt}
        entries.append({**words, "header": list(map(str, panel.header)), "rows": rows, "numbers": numbers, "picture": name})
    if entries:
        write_json(run_dir / FOLDER / LIST, {"panels": entries})


def _shown(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def read_panels(run_dir: Path) -> dict[str, list[PanelView]]:
    """Place → its panels, in the order in which they were given. What is missing or broken is left out."""
    found: dict[str, list[PanelView]] = {place: [] for place in PLACES}
    for entry in objects(read_object(run_dir / FOLDER / LIST).get("panels")):
        text, header, rows, numbers = (entry.get(key) for key in ("text", "header", "rows", "numbers"))
        picture = entry.get("picture")
        view = PanelView(
            title=str(entry.get("title", "")),
            place=str(entry.get("place")),
            source=str(entry.get("source") or ""),
            paragraphs=[part.strip() for part in text.split("\n\n") if part.strip()] if isinstance(text, str) else [],
            header=_strings(header),
            rows=[_strings(row) for row in rows] if isinstance(rows, list) else [],
            numbers=[flag is True for flag in numbers] if isinstance(numbers, list) else [],
            picture=read_picture(run_dir / FOLDER, picture if isinstance(picture, str) else None),
            alt=str(entry.get("alt") or ""),
        )
        found.get(view.place, found[PLACES[0]]).append(view)
    return found


def _strings(cells: object) -> list[str]:
    return [str(cell) for cell in cells] if isinstance(cells, list) else []
