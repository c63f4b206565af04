"""From where images lie to pixels of one size. Torch-free. Shapes: n images of the data, b of a batch, h w."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Fit, UserError, fitted
from ibllm_files.config import FilesConfig
from ibllm_files.sources import Source


class Images:
    """The images of a dataset by their numbers.

    Attributes:
        broken: number → why it cannot be read, a part of a sentence about it.
    """

    def __init__(self, sources: Sequence[Source], config: FilesConfig) -> None:
        try:
            from PIL import Image
        except ImportError:
            raise UserError("the dataset files needs the package pillow: pip install pillow") from None
        broken: dict[int, str] = {}
        self._pixels = np.empty((len(sources), config.size, config.size, 3), dtype=np.uint8)
        for number, source in enumerate(sources):
            try:
                with source.open() as file, Image.open(file) as image:
                    self._pixels[number] = fitted(image, (config.size, config.size), Fit(config.fit, config.background))
            except FileNotFoundError:
                broken[number] = f"there is no image {source.name}"
            # Pillow raises many kinds of error for a damaged file, SyntaxError among them.
            except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
                broken[number] = f"the image {source.name} cannot be read ({error})"
        self._pixels.setflags(write=False)
        self.broken: Mapping[int, str] = broken

    def take(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(b) numbers → (b h w 3)."""
        return self._pixels[numbers]
