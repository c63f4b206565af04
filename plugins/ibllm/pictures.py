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

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["SUFFIXES", "Fit", "Picture", "fitted", "in_folder", "listed", "opened", "pixels", "to_pil"]

Pixels = npt.NDArray[np.uint8]
#: What may stand for a picture: one of Pillow's, an array (h w), (h w c), a tensor (c h w), a path, or a file that is open.
Picture: TypeAlias = "Image | npt.NDArray[Any] | Tensor | str | os.PathLike[str] | BinaryIO | bytes"
#: A header that promises more pixels than this is not decoded.
MOST_PIXELS = 89_478_485
#: An image with more pixels than this is made smaller before it is converted, so that memory stays bounded.
LARGE = 16_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm", ".pgm"})
#: Formats whose further frames are no animation: previews, another view, layers of the first one.
_FIRST_FRAME = {"MPO", "PSD", "ICO", "ICNS"}


@attrs.frozen
class Fit:
    """How a picture of any size becomes one of a model's data.

    Attributes:
        how: ``crop``, the middle of it, or ``pad``, the whole of it with bars.
        background: red, green and blue, 0 … 255, of bars and behind transparency.
    """

    how: str = "crop"
    background: tuple[int, int, int] = (255, 255, 255)


def opened(source: str | os.PathLike[str] | BinaryIO | bytes, name: str = "", most: int = MOST_PIXELS) -> Image:
    """The picture in a file, decoded.

    Args:
        source: a path, the bytes of a file, or a file that is open.
        name: what to call it in messages; by default its path.
        most: of pixels. What has more is refused before it is decoded.

    Raises:
        UserError: there is none, it is no picture, damaged, animated, or has more pixels; its name is said.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(source) if isinstance(source, str | os.PathLike) else None
    name = name or (str(path) if path is not None else "the image")
    with _explained(name), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `most` decides
        if path is not None and path.is_dir():
            raise UserError(f"{path} is a folder: expected an image")
        given: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        try:
            with Image.open(given) as image:
                _check(image, name, most)
                image.load()
                return image
        except FileNotFoundError:
            raise UserError(f"there is no image {name}") from None
        except UnidentifiedImageError:
            raise UserError(f"{name} is no image of a kind that Pillow reads") from None
        except Image.DecompressionBombError:
            raise UserError(f"{name} has too many pixels: expected at most {most:,}") from None


def _check(image: Image, name: str, most: int) -> None:
    width, height = image.size
    if width * height > most:
        raise UserError(f"{name} is {width} × {height} pixels: expected at most {most:,} of them; make it smaller")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _FIRST_FRAME:
        raise UserError(f"{name} has {frames} frames: expected one image; save the frame that is meant as a file of its own")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever Pillow raises for a damaged file (SyntaxError among it), as the user's error."""
    try:
        yield
    except UserError:
        raise
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


def pixels(images: Sequence[Picture], shape: tuple[int, int, int], fit: Fit, names: Sequence[str] = ()) -> Pixels:
    """Pictures → (b h w c) uint8, as a model for images of the shape (c, h, w) reads them.

    Args:
        names: what to call each in messages.

    Raises:
        UserError: one of them is no picture, or cannot be read.
    """
    c, h, w = shape
    made = np.empty((len(images), h, w, c), np.uint8)
    for number, image in enumerate(images):
        name = names[number] if names else "the image" if len(images) == 1 else f"image {number + 1} of {len(images)}"
        made[number] = _one(image, shape, fit, name)
    return made


def _one(image: Picture, shape: tuple[int, int, int], fit: Fit, name: str) -> Pixels:
    from PIL.Image import Image

    c, h, w = shape
    if isinstance(image, str | os.PathLike):
        image = opened(image)
    elif isinstance(image, bytes) or hasattr(image, "read"):
        image = opened(image, name)  # type: ignore[arg-type]
    if isinstance(image, Image):
        with _explained(getattr(image, "filename", "") or name):
            return fitted(image, (w, h), fit, c)
    values = _array(image, name)
    if values.shape == (h, w, c):
        return values
    with _explained(name):
        return fitted(to_pil(values), (w, h), fit, c)


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
    plain = _plain(ImageOps.exif_transpose(_smaller(image, size)))
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


def _smaller(image: Image, size: tuple[int, int]) -> Image:
    """A large image by averages of whole squares, still four times as wide as it will be; any other as it is."""
    if image.width * image.height <= LARGE:
        return image
    factor = max(1, min(image.width // (4 * size[0]), image.height // (4 * size[1])))
    exif = image.getexif()
    small = (image if image.mode in ("L", "RGB", "RGBA", "CMYK", "F", "I") else _plain(image)).reduce(factor)
    small.info["exif"] = exif.tobytes()
    small.format = image.format
    return small


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
