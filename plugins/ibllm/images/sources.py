"""Where an image's bytes lie. Torch-free."""

from __future__ import annotations

from typing import BinaryIO, Protocol


class ImageSource(Protocol):
    """A file, or a piece of one, that holds one image as it was saved. Sources are small and may be sent to other processes."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def key(self) -> str:
        """Its place, its size and the time of its last change: what was found out about these bytes holds as long as it is the same.

        Raises:
            OSError: it is not there.
        """

    def open(self) -> BinaryIO:
        """Its bytes, at their beginning; whoever opens it closes it. Raises `OSError` where it cannot be opened."""
