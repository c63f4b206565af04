"""The options of datasets whose images lie in files: how they are fitted, what is broken, and what is kept of them. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ibllm_core.errors import UserError
from ibllm_core.host.options import DatasetConfig, option
from ibllm_core.recipe.words import with_facts

#: Problems that a refusal names.
NAMED = 20


@attrs.frozen(kw_only=True)
class StoredImagesConfig(DatasetConfig):
    """Images in files, as pixels of one size."""

    size: int = option(64, help="height and width of the images in pixels", ge=8, le=1024)
    fit: str = option("crop", help="crop: the middle square; pad: the whole image, with bars of the background", choices=("crop", "pad"))
    background: tuple[int, int, int] = option((255, 255, 255), help="red, green and blue of bars and behind transparency", ge=0, le=255)
    broken: str = option(
        "stop",
        help="what becomes of records that cannot be read: stop refuses the data and names 20 of them; skip leaves them out, and a run lists them",
        choices=("stop", "skip"),
    )
    max_broken: float = option(0.01, help='with broken = "skip": the largest fraction of the records that may be left out', ge=0, le=1)
    most_pixels: int = option(89_478_485, help="an image with more pixels is broken", ge=1, le=178_956_970)
    cache: bool | str = with_facts(
        option(
            "auto",
            help="whether decoded images are kept: on disk (true), nowhere (false), or as their number and the cost of decoding suggest (auto)",
            choices=("auto", True, False),
        ),
        unresolved=True,
    )
    cache_limit: float = with_facts(
        option(20.0, help="gigabytes that the decoded images of all data sets may take on disk", ge=0), unresolved=True
    )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of every image."""
        return (3, self.size, self.size)

    def fitting(self) -> tuple[str, tuple[int, int, int]]:
        """As its options say."""
        return self.fit, self.background

    def refuse_broken(self, place: str, count: int, good: int, named: Sequence[str]) -> None:
        """Raises `UserError` where there are broken records and they stop the data, or more than `max_broken` of all would be left out.

        Args:
            place: whose they are: a path, or a key of the recipe.
            count, good: broken records, and those that can be used.
            named: what is wrong with the first `NAMED` of them, a line each.
        """
        total = count + good
        if not count or (self.broken == "skip" and count <= self.max_broken * total):
            return
        if self.broken == "stop" and count == 1:
            raise UserError(named[0])
        if self.broken == "skip":
            head = f"{count} of {total} records are broken, more than max_broken = {self.max_broken:g} lets be left out"
        else:
            head = f'{count} problems; broken = "skip" leaves such records out'
        more = [f"… and {count - NAMED} more"] if count > NAMED else []
        raise UserError("\n  ".join([f"{place}: {head}", *named[:NAMED], *more]))
