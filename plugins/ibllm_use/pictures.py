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
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError
from ibllm_core.runs import directory

from .common import note, require_new

Pixels = npt.NDArray[np.uint8]
#: Endings of files with one picture, and of animations.
STILL, MOVING = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"), (".gif", ".webp", ".apng")
#: Sizes in pixels: the longer side of a picture in a sheet, space, letters; lines below a picture, at most. Colours that are seen on light and dark ground.
SIDE, GAP, LETTER, LINES = 128, 12, 13, 5
INK, FRAME = (118, 118, 128, 255), (118, 118, 128, 110)
#: Pictures in a row of a sheet, at most.
COLUMNS = 8


@attrs.frozen
class Picture:
    """An image and what is written below it: `pixels` (h w c) uint8."""

    pixels: Pixels = attrs.field(eq=False)
    label: str = ""


@attrs.frozen
class Group:
    """Pictures that stand together in a sheet, below a title where there is one."""

    pictures: Sequence[Picture]
    title: str = ""


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


def write(path: Path, image: Any, overwrite: bool = False, **how: Any) -> Path:
    """Writes an image of Pillow's, whole or not at all; folders above it are made. Raises `UserError` where there is a file already."""
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


def as_url(image: Any) -> str:
    """An image of Pillow's as a ``data:`` address, for pages that need no other file."""
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def write_animation(path: Path, frames: Sequence[Pixels], overwrite: bool = False, seconds: float = 0.1, enlarged: int = 1) -> Path:
    """Writes frames (h w c) uint8 as an animation that begins anew at its end: GIF, WebP or APNG by the ending."""
    first, *others = (enlarge(frame, enlarged) for frame in frames)
    how: dict[str, Any] = {"lossless": True} if path.suffix.lower() == ".webp" else {}
    return write(path, first, overwrite, save_all=True, append_images=others, duration=round(1000 * seconds), loop=0, **how)


def flat(image: Any) -> Any:
    """An image without transparency, on white."""
    from PIL import Image

    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def enlarge(pixels: Pixels, times: int) -> Any:
    """(h w c) uint8 → an image of Pillow's, each pixel a square of `times` pixels a side."""
    from PIL import Image

    image = Image.fromarray(pixels)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST) if times > 1 else image


def times_for(pixels: Pixels, side: int = SIDE) -> int:
    """How often an image (h w c) is enlarged so that its longer side has about `side` pixels."""
    return max(1, side // max(pixels.shape[:2]))


def sheet(groups: Sequence[Group], columns: int = COLUMNS) -> Any:
    """A sheet of labelled pictures, as an image of Pillow's with a transparent ground. A label that is too long is cut, with ``…``."""
    from PIL import Image, ImageDraw

    texts = [text for group in groups for text in (group.title, *(picture.label for picture in group.pictures))]
    font = font_for("".join(texts))
    cells = [[(enlarge(p.pixels, times_for(p.pixels)), p.label) for p in group.pictures] for group in groups]
    across = min(columns, max(len(row) for row in cells))
    side = max(image.width for row in cells for image, _ in row)
    width = across * (side + GAP) + GAP
    placed: list[tuple[Any, int, int]] = []
    written: list[tuple[str, int, int]] = []
    y = GAP
    for group, row in zip(groups, cells, strict=True):
        for line in wrapped(group.title, font, width - 2 * GAP):
            written.append((line, GAP, y))
            y += LETTER + 4
        y += 4 if group.title else 0
        for start in range(0, len(row), across):
            below = y + max(image.height for image, _ in row[start : start + across])
            bottom = below
            for column, (image, label) in enumerate(row[start : start + across]):
                x = GAP + column * (side + GAP)
                placed.append((image, x, y))
                lines = wrapped(label, font, side)
                written += [(line, x, below + 4 + number * (LETTER + 4)) for number, line in enumerate(lines)]
                bottom = max(bottom, below + (4 + len(lines) * (LETTER + 4) if lines else 0))
            y = bottom + GAP
    canvas = Image.new("RGBA", (width, y), (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    for image, x, top in placed:
        canvas.paste(image, (x, top))
        pen.rectangle((x - 1, top - 1, x + image.width, top + image.height), outline=FRAME)
    for line, x, top in written:
        pen.text((x, top), line, font=font, fill=INK)
    return canvas


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
