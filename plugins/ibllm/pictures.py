"""Pictures as a person has them ↔ pixels as a model reads them. Torch-free. Shapes: h w c an image."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError, system_error

from .cropping import outside

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = [
    "SUFFIXES",
    "Fit",
    "Picture",
    "drafted",
    "explained",
    "fitted",
    "in_folder",
    "is_animated",
    "listed",
    "opened",
    "pixels",
    "to_pil",
]

Pixels = npt.NDArray[np.uint8]
#: What may stand for a picture: one of Pillow's, an array (h w), (h w c), a tensor (c h w), a path, or a file that is open.
Picture: TypeAlias = "Image | npt.NDArray[Any] | Tensor | str | os.PathLike[str] | BinaryIO | bytes"
#: A header that promises more pixels than this is not decoded.
MOST_PIXELS = 89_478_485
#: What that bound may be raised to: Pillow itself refuses what has more.
MOST_POSSIBLE = 2 * MOST_PIXELS
#: An image with more pixels than this is made smaller before it is converted, so that memory stays bounded.
LARGE = 16_000_000
#: Pixels of the bands in which that is done.
BAND = 4_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm", ".pgm"})
#: Formats whose further frames are no animation: previews, another view, layers of the first one.
_FIRST_FRAME = {"MPO", "PSD", "ICO", "ICNS"}
#: EXIF's tag of the orientation, and what makes an image upright, by its value (a member of Pillow's `Transpose`).
_ORIENTATION = 0x0112
_UPRIGHT = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
_ON_ITS_SIDE = ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")


@attrs.frozen
class Fit:
    """How a picture of any size becomes one of a model's data.

    Attributes:
        how: ``crop``, the middle of it, or ``pad``, the whole of it with bars.
        background: red, green and blue, 0 … 255, of bars and behind transparency.
    """

    how: str = "crop"
    background: tuple[int, int, int] = (255, 255, 255)


def opened(source: str | os.PathLike[str] | BinaryIO | bytes, name: str = "", most: int = MOST_PIXELS, **how: Any) -> Image:
    """The picture in a file, decoded.

    Args:
        source: a path, the bytes of a file, or a file that is open.
        name: what to call it in messages; by default its path.
        most: of pixels. What has more is refused before it is decoded.
        how: as `loaded` has it.

    Raises:
        UserError: there is none, it is no picture, damaged, animated, or has more pixels; its name is said.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `most` decides
        return loaded(source, name, most, **how)


def loaded(
    source: str | os.PathLike[str] | BinaryIO | bytes,
    name: str = "",
    most: int = MOST_PIXELS,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    raised_by: str = "",
    animated: bool = False,
) -> Image:
    """As `opened`, for threads: the process's warnings are left as they are, so Pillow warns of what has more than `MOST_PIXELS`.

    Args:
        size: (w, h) that it will be made to `fit`: a JPEG is decoded smaller, where that leaves it at least as large (`drafted`).
        raised_by: the option that `most` is, for messages.
        animated: of an animation the first frame is meant; else it is refused.
    """
    from PIL import Image

    path = Path(source) if isinstance(source, str | os.PathLike) else None
    name = name or (str(path) if path is not None else "the image")
    with explained(name, most):
        if path is not None and path.is_dir():
            raise UserError(f"{path} is a folder: expected an image")
        given: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(given) as image:
            width, height = image.size
            if width * height > most:
                raise UserError(too_large(name, width, height, most, raised_by))
            if not animated and is_animated(image):
                frames = getattr(image, "n_frames", 1)
                raise UserError(f"{name} has {frames} frames: expected one image; save the frame that is meant as a file of its own")
            if size is not None:
                drafted(image, size, fit or Fit())
            image.load()
            return image


def too_large(name: str, width: int, height: int, most: int, raised_by: str = "") -> str:
    """What is said of an image of too many pixels, and by which option it could be read."""
    helps = f"make it smaller{f', or raise {raised_by}' if raised_by else ''}"
    return f"{name} is {width} × {height} pixels: expected at most {most:,} of them; {helps}"


def is_animated(image: Image) -> bool:
    """Whether an image, opened and not yet decoded, has frames that follow its first; layers and previews are none."""
    return image.format not in _FIRST_FRAME and bool(getattr(image, "is_animated", False))


def drafted(image: Image, size: tuple[int, int], fit: Fit) -> None:
    """Has a JPEG that is opened, not yet decoded, decoded at 1/2, 1/4 or 1/8, the least that is as large as `fitted` will make it; others stay as they are.

    The inverse cosine transform then gives means of 2, 4 or 8 pixels squared, which `fitted` resamples: never enlarges. Which scale it is
    depends on the image's and the target's sizes alone.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    # An orientation may swap both sides; the larger side of the target is asked for either way.
    side, measure = max(size), min(image.size) if fit.how == "crop" else max(image.size)
    if side < measure:
        image.draft(None, (-(-image.width * side // measure), -(-image.height * side // measure)))


@contextmanager
def explained(name: str, most: int = MOST_PIXELS) -> Iterator[None]:
    """Whatever Pillow raises for a damaged file (SyntaxError among it), as the user's error."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"there is no image {name}") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is no image of a kind that Pillow reads") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name} has too many pixels: expected at most {most:,}; make it smaller") from None
    except MemoryError:
        raise UserError(f"{name} cannot be read: there is not enough memory for it") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, OverflowError, ArithmeticError) as error:
        known = system_error(error)
        raise known or UserError(f"{name} cannot be read ({error})") from error


def listed(images: Picture | Sequence[Picture]) -> tuple[list[Any], bool]:
    """Pictures as a list, and whether it was a single one. An array (b h w c) and a tensor (b c h w) are lists."""
    if isinstance(images, str | os.PathLike | bytes) or hasattr(images, "read"):
        return [images], True
    dimensions = getattr(images, "ndim", None)
    if dimensions is not None:
        return (list(images), False) if dimensions == 4 else ([images], True)  # type: ignore[arg-type]
    if isinstance(images, Sequence):
        return list(images), False
    if hasattr(images, "__iter__") and not hasattr(images, "getbands"):
        return list(images), False
    return [images], True


def pixels(
    images: Sequence[Picture], shape: tuple[int, int, int], fit: Fit, names: Sequence[str] = (), shares: list[float] | None = None
) -> Pixels:
    """Pictures → (b h w c) uint8, as a model for images of the shape (c, h, w) reads them.

    Args:
        names: what to call each in messages.
        shares: takes the share of each that is cut off.

    Raises:
        UserError: one of them is no picture, or cannot be read.
    """
    c, h, w = shape
    made = np.empty((len(images), h, w, c), np.uint8)
    for number, image in enumerate(images):
        name = names[number] if names else "the image" if len(images) == 1 else f"image {number + 1} of {len(images)}"
        made[number], share = _one(image, shape, fit, name)
        if shares is not None:
            shares.append(share)
    return made


def _one(image: Picture, shape: tuple[int, int, int], fit: Fit, name: str) -> tuple[Pixels, float]:
    """The picture as the model reads it, and the share of it that is cut off."""
    from PIL.Image import Image

    c, h, w = shape
    if isinstance(image, str | os.PathLike):
        image = opened(image, size=(w, h), fit=fit)
    elif isinstance(image, bytes) or hasattr(image, "read"):
        image = opened(image, name, size=(w, h), fit=fit)  # type: ignore[arg-type]
    if isinstance(image, Image):
        with explained(getattr(image, "filename", "") or name):
            width, height = image.size
            if _UPRIGHT.get(_orientation(image), "") in _ON_ITS_SIDE:
                width, height = height, width
            return fitted(image, (w, h), fit, c), outside(width, height, (w, h), fit.how)
    values = _array(image, name)
    if values.shape == (h, w, c):
        return values, 0.0
    with explained(name):
        return fitted(to_pil(values), (w, h), fit, c), outside(values.shape[1], values.shape[0], (w, h), fit.how)


def _array(image: Any, name: str) -> Pixels:
    """An array (h w), (h w c) or a tensor (c h w) → (h w c) uint8."""
    if hasattr(image, "detach"):
        tensor = image.detach().cpu()
        image = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
        layout = "(c h w)"
    elif isinstance(image, np.ndarray):
        layout = "(h w c)"
    else:
        raise UserError(
            f"{name} is a {type(image).__name__}: expected a path, one of Pillow's images, an array (h w c) or a tensor (c h w)"
        )
    values = image[..., None] if image.ndim == 2 else image
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or not values.size:
        shape = image.shape if layout == "(h w c)" or image.ndim != 3 else image.transpose(2, 0, 1).shape
        raise UserError(f"{name} has the shape {tuple(shape)}: expected {layout} with 1 to 4 channels")
    return _bytes(values, name)


def _bytes(values: npt.NDArray[Any], name: str) -> Pixels:
    """Tones of any type → 0 … 255."""
    kind = values.dtype
    if kind == np.uint8:
        return values
    if kind == np.bool_:
        return values.astype(np.uint8) * 255
    if kind == np.uint16:
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if not (np.issubdtype(kind, np.floating) or np.issubdtype(kind, np.integer)):
        raise UserError(f"{name} is of {kind}: expected uint8, or floats in [0, 1]")
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(kind, np.integer):
        if low < 0 or high > 255:
            raise UserError(f"{name} has values from {low:g} to {high:g}: expected 0 to 255 in {kind}")
        return values.astype(np.uint8)
    if not (low >= 0 and high <= 1):  # NaN is neither
        helps = "; (y + 1) / 2 makes [-1, 1] of it" if low >= -1 and high <= 1 else ""
        raise UserError(f"{name} has values from {low:g} to {high:g}: expected floats in [0, 1], or uint8{helps}")
    return (values * 255).round().astype(np.uint8)


def to_pil(values: Pixels) -> Image:
    """(h w c) uint8 with 1 to 4 channels → one of Pillow's images."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values))


def fitted(image: Image, size: tuple[int, int], fit: Fit, channels: int = 3) -> Pixels:
    """A decoded picture of any mode → (h w c), upright, without transparency, of the size (w, h).

    Raises:
        UserError: a mode whose tones nobody knows, or channels that are neither 1 nor 3.
    """
    from PIL import Image, ImageOps

    if channels not in (1, 3):
        raise UserError(f"images of {channels} channels are read from arrays of exactly their shape alone")
    if not all(image.size):
        raise UserError(f"an image of {image.width} × {image.height} pixels: expected some")
    turn = _UPRIGHT.get(_orientation(image))
    plain = _plain(_smaller(image, size))
    plain = plain.transpose(Image.Transpose[turn]) if turn else plain
    if plain.mode == "RGBA":
        plain = Image.alpha_composite(Image.new("RGBA", plain.size, (*fit.background, 255)), plain).convert("RGB")
    if fit.how == "crop":
        square = ImageOps.fit(plain, size, Image.Resampling.LANCZOS)
    else:
        square = _padded(plain, size, fit.background)
    made = np.asarray(square if channels == 3 else square.convert("L"))
    return made if channels == 3 else made[..., None]


def _padded(image: Image, size: tuple[int, int], background: tuple[int, int, int]) -> Image:
    """The whole image within bars; one that is thousands of times longer than wide is still a line."""
    from PIL import Image, ImageOps

    scale = min(size[0] / image.width, size[1] / image.height)
    if min(image.width, image.height) * scale >= 1:
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS, color=background)
    inside = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    ground = Image.new("RGB", size, background)
    ground.paste(image.resize(inside, Image.Resampling.LANCZOS), ((size[0] - inside[0]) // 2, (size[1] - inside[1]) // 2))
    return ground


def _orientation(image: Image) -> int:
    """What EXIF says of it, 1 … 8; upright (1) where it says nothing, or nothing that can be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever a malformed one makes of Pillow's reader: the pixels are whole all the same
        return 1
    return found if isinstance(found, int) else 1


def _smaller(image: Image, size: tuple[int, int]) -> Image:
    """A large image by averages of whole squares, still four times as wide as it will be; any other as it is."""
    from PIL import Image

    factor = min(image.width // (4 * size[0]), image.height // (4 * size[1]))
    if image.width * image.height <= LARGE or factor < 2:
        return image
    # Conversions take four bytes a pixel and more: a band at a time.
    rows = max(1, BAND // image.width // factor) * factor
    made: Image.Image | None = None
    for top in range(0, image.height, rows):
        piece = image.crop((0, top, image.width, min(image.height, top + rows)))
        piece = (piece if piece.mode in ("L", "RGB", "RGBA", "CMYK") else _plain(piece)).reduce(factor)
        made = made or Image.new(piece.mode, (-(-image.width // factor), -(-image.height // factor)))
        made.paste(piece, (0, top // factor))
    assert made is not None
    made.info = {key: value for key, value in image.info.items() if key == "transparency" and made.mode == image.mode}
    return made


def _plain(image: Image) -> Image:
    """Any mode as RGB, or RGBA where something may be seen through; grey of 16 bits and floats keep their tones."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        known = values.astype(np.uint16) if image.mode != "F" and values.min() >= 0 and values.max() <= 65535 else values
        return Image.fromarray(_bytes(known, f"the image (mode {image.mode})")).convert("RGB")
    image = image.convert("LA") if image.mode == "La" else image
    return image.convert("RGBA" if image.has_transparency_data or image.mode == "RGBa" else "RGB")


def in_folder(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures in a folder, at any depth, in order; what is hidden is left out. Raises `UserError` where there is none."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root} is no folder")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not shown:
        raise UserError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))})")
    return shown
