"""Which images Pillow reads here. Torch-free."""

from __future__ import annotations

import contextlib
from functools import cache

from ibllm.plugin import UserError

#: Formats of photographs and drawings that Pillow may read; it knows further ones, of which few are pictures.
_PICTURES = frozenset(
    {
        ".apng",
        ".avif",
        ".avifs",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
        ".hif",
        ".ico",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jxl",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".psd",
        ".qoi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    }
)


@cache
def readable() -> frozenset[str]:
    """The endings of names of images that can be read here, in small letters; with the package pillow-heif those of phones, too.

    Raises:
        UserError: there is no Pillow.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UserError("the dataset files needs the package pillow: pip install pillow") from None
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    return frozenset(kind for kind, name in Image.registered_extensions().items() if kind in _PICTURES and name in Image.OPEN)
