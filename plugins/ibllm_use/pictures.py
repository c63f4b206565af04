"""Pictures that a command makes: single files, folders, labelled sheets and animations. Torch-free.

Shapes: h w pixels, c channels.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError
from ibllm_core.runs import directory

from .common import note, require_new

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
#: Endings of files with one picture, and of animations.
STILL, MOVING = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"), (".gif", ".webp", ".apng")
#: Sizes in pixels: the longer side of a picture in a sheet, space, letters, their lines; and lines of a label, at most.
SIDE, GAP, LETTER, LINE, LINES = 128, 12, 13, 17, 8
#: Colours that are seen on light and dark ground.
INK, FRAME = (118, 118, 128, 255), (118, 118, 128, 110)
#: Pictures in a row of a sheet, at most.
COLUMNS = 8


@attrs.frozen
class Picture:
    """An image and what is written below it: `pixels` (h w c) uint8. Without pixels the label stands in the image's place."""

    pixels: Pixels | None = attrs.field(eq=False)
    label: str = ""


@attrs.frozen
class Group:
    """Pictures that stand together in a sheet, below a title where there is one; with `arrows` from each to the next."""

    pictures: Sequence[Picture]
    title: str = ""
    arrows: bool = False


def is_file(path: Path, endings: Sequence[str] = STILL) -> bool:
    """True where a path names one file with pictures; False for a folder. Raises `UserError` for another ending."""
    if path.is_dir() or not path.suffix:
        return False
    require_ending(path, endings, ", or without an ending: a folder")
    return True


def require_ending(path: Path, endings: Sequence[str], more: str = "") -> None:
    """Raises `UserError` for a file that would be of a kind that is not written."""
    if path.suffix.lower() not in endings:
        raise UserError(f"{path}: expected a name that ends in {', '.join(dict.fromkeys(endings))}{more}")


def names(texts: Sequence[str], each: int = 1, ending: str = ".png") -> list[str]:
    """A file name for each text, or `each` of them: its number and its first words: ``003-a-small-red-circle-2.png``."""
    width = max(3, len(str(len(texts))))
    found = []
    for number, text in enumerate(texts, 1):
        words = re.sub(r"[^\w]+", "-", text).strip("-")[:48].rstrip("-")
        stem = f"{number:0{width}}-{words}" if words else f"{number:0{width}}"
        found += [f"{stem}-{again}{ending}" if each > 1 else f"{stem}{ending}" for again in range(1, each + 1)]
    return found


def write(path: Path, image: Image, overwrite: bool = False, **how: Any) -> Path:
    """Writes an image, whole or not at all; folders above it are made. Raises `UserError` where there is a file already."""
    require_new([path], overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".apng": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}.get(
        path.suffix.lower(), path.suffix[1:].upper()
    )
    with directory.replacing(path) as partial, partial.open("wb") as file:
        flat(image).save(file, kind, **how) if kind in ("JPEG", "BMP") else image.save(file, kind, **how)
    return path


def write_text(path: Path, text: str, overwrite: bool = False) -> Path:
    """Writes a text, whole or not at all; folders above it are made. Raises `UserError` where there is a file already."""
    require_new([path], overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    directory.write_text(path, text)
    return path


def as_url(image: Image) -> str:
    """An image as a ``data:`` address, for pages that need no other file."""
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def write_animation(path: Path, frames: Sequence[Pixels], overwrite: bool = False, seconds: float = 0.1, enlarged: int = 1) -> Path:
    """Writes frames (h w c) uint8 as an animation that begins anew at its end: GIF, WebP or APNG by the ending."""
    first, *others = (enlarge(frame, enlarged) for frame in frames)
    how: dict[str, Any] = {"lossless": True} if path.suffix.lower() == ".webp" else {}
    return write(path, first, overwrite, save_all=True, append_images=others, duration=round(1000 * seconds), loop=0, **how)


def flat(image: Image) -> Image:
    """An image without transparency, on white."""
    from PIL import Image

    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def enlarge(pixels: Pixels, times: int) -> Image:
    """(h w c) uint8 → an image, each pixel a square of `times` pixels a side."""
    from PIL import Image

    image = Image.fromarray(pixels)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST) if times > 1 else image


def times_for(pixels: Pixels, side: int = SIDE) -> int:
    """How often an image (h w c) is enlarged so that its longer side has about `side` pixels."""
    return max(1, side // max(pixels.shape[:2]))


def sheet(groups: Sequence[Group], columns: int = COLUMNS) -> Image:
    """A sheet of labelled pictures with a transparent ground. A label that is too long is cut, with ``…``."""
    from PIL import Image, ImageDraw

    labels = [text for group in groups for text in (group.title, *(picture.label for picture in group.pictures))]
    font = font_for("→" + "".join(labels))
    across = min(columns, max(len(group.pictures) for group in groups))
    cell = max(
        (enlarge(p.pixels, times_for(p.pixels)).size for group in groups for p in group.pictures if p.pixels is not None),
        default=(SIDE, SIDE),
    )
    gap = 3 * GAP if any(group.arrows for group in groups) else GAP
    width = across * (cell[0] + gap) - gap + 2 * GAP
    canvas = Image.new("RGBA", (width, 1), (0, 0, 0, 0))
    y = GAP
    for group in groups:
        lines = wrapped(group.title, font, width - 2 * GAP)
        canvas = _extended(canvas, y + len(lines) * LINE)
        _write_lines(ImageDraw.Draw(canvas), lines, (GAP, y), font)
        y += len(lines) * LINE + (4 if lines else 0)
        for start in range(0, len(group.pictures), across):
            row = group.pictures[start : start + across]
            below = max((len(wrapped(p.label, font, cell[0])) for p in row if p.pixels is not None), default=0)
            canvas = _extended(canvas, y + cell[1] + 4 + below * LINE)
            for column, picture in enumerate(row):
                _put(canvas, picture, (GAP + column * (cell[0] + gap), y), cell, font)
                if group.arrows and column:
                    ImageDraw.Draw(canvas).text((GAP + column * (cell[0] + gap) - gap // 2, y + cell[1] // 2), "→", INK, font, anchor="mm")
            y = canvas.height + GAP
    return _extended(canvas, y)


def _put(canvas: Image, picture: Picture, corner: tuple[int, int], cell: tuple[int, int], font: Any) -> None:
    """A picture of a sheet, with its label below it or in its place."""
    from PIL import ImageDraw

    pen, (x, y), lines = ImageDraw.Draw(canvas), corner, wrapped(picture.label, font, cell[0])
    if picture.pixels is None:
        _write_lines(pen, lines, (x, y + (cell[1] - len(lines) * LINE) // 2), font)
        return
    image = enlarge(picture.pixels, times_for(picture.pixels))
    canvas.paste(image, corner)
    pen.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=FRAME)
    _write_lines(pen, lines, (x, y + cell[1] + 4), font)


def _write_lines(pen: Any, lines: Sequence[str], corner: tuple[int, int], font: Any) -> None:
    for number, line in enumerate(lines):
        pen.text((corner[0], corner[1] + number * LINE), line, font=font, fill=INK)


def _extended(canvas: Image, height: int) -> Image:
    """The canvas with more room below."""
    return canvas.crop((0, 0, canvas.width, height))


def wrapped(text: str, font: Any, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, at most `LINES` of them; words that are longer, and Chinese, break anywhere."""
    lines, line = list[str](), ""
    for piece in re.findall(r"\s*[^\s\u2e80-\uffef]+|\s*[\u2e80-\uffef]", text):
        for part in [piece] if font.getlength(piece.strip()) <= width else list(piece):
            if line and font.getlength((line + part).strip()) > width:
                lines.append(line.strip())
                line = ""
            line += part
    lines += [line.strip()] if line.strip() else []
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], f"{lines[LINES - 1][:-1]}…"]


@lru_cache
def font_for(text: str) -> Any:
    """A font with all characters of the text, where one is found; else what it lacks is told."""
    from PIL import ImageFont

    wanted = {c for c in text if not c.isspace()}
    lacking = wanted
    for path in _fonts(any(c > "\u2e80" for c in wanted)):
        lacking = _lacking(path, wanted)
        if not lacking:
            return ImageFont.truetype(path, LETTER)
    if lacking:
        note(f"no font here has {''.join(sorted(lacking)[:8])}: labels in the picture are without them")
    return ImageFont.truetype(next(iter(_fonts(False))), LETTER)


def _fonts(wide: bool) -> list[str]:
    """Files of fonts: the one that matplotlib brings, then, where Chinese is `wide`ly asked for, those of this machine that may have it."""
    from matplotlib import font_manager

    first = font_manager.findfont("DejaVu Sans")
    found = sorted(font_manager.findSystemFonts()) if wide else []
    likely = re.compile(
        r"cjk|noto.*(sc|tc|jp)|wqy|pingfang|heiti|hei|song|gothic|yahei|msyh|simsun|unifont|droid.*fallback|arial.?unicode", re.IGNORECASE
    )
    return [first, *(path for path in found if likely.search(Path(path).name))]


def _lacking(path: str, wanted: set[str]) -> set[str]:
    from matplotlib.ft2font import FT2Font

    try:
        has = FT2Font(path).get_charmap()
    except (OSError, RuntimeError):
        return wanted
    return {c for c in wanted if ord(c) not in has}
