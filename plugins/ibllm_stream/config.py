"""The options of the dataset `webdataset`. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from ibllm.plugin import StoredImagesConfig, option

SPLITS: Mapping[str, str] = {
    "train": "items of the shards for training",
    "validation": "items of the shards looked at during training",
    "test": "items of the shards never seen in training",
}


@attrs.frozen(kw_only=True)
class WebDatasetConfig(StoredImagesConfig):
    """Images and captions in tar shards, as WebDataset and img2dataset write them.

    Files of one name up to its first dot are a sample: ``000.jpg``, ``000.txt``, ``000.json``. A sample with several captions gives as many items.
    Each split has shards of its own: names in the folder `path`, with braces (``{000..098}.tar``) or wildcards, several separated by ``::``.

    An image that turns out to be broken when it is decoded ends the run, too; with ``broken = "skip"`` another item of the split takes its place.

    Shards on a disk are indexed once: items are then addressed, in an order that depends on no worker. With ``indexed = false`` the training's
    shards are read one after the other instead, from wherever their names say: a disk, a URL, the output of a command (``pipe:``), which is run.
    """

    path: str = option("", help="the folder of the shards; relative to the recipe that names it", path="folder")
    train: str = option(help="the shards of the split train")
    validation: str = option("", help="the shards of the split validation")
    test: str = option("", help="the shards of the split test")
    holds: str = option("pairs", help="pairs of images and captions, or images alone", choices=("pairs", "images"))
    image: str = option("jpg;jpeg;png;webp;gif;bmp;tif;tiff", help="endings of a sample's image, the first that it has")
    caption: str = option("txt", help="ending of a sample's captions: a text with one a line, or json")
    caption_key: str = option("caption", help="where they are in JSON: a text, or an array of texts")
    language: str = option("en", help="language (ISO 639) of the captions")
    language_key: str = option("", help="where a sample's JSON says another one")
    indexed: bool = option(True, help="false: the shards of the split train are a stream; needs items")
    items: int = option(0, help="of a stream: its items, as an epoch counts them; it is read anew when it ends", ge=0)
    buffer: int = option(1000, help="of a stream: samples that each reader keeps to shuffle", ge=1)
    readers: int = option(8, help="of a stream: readers that take turns, each with shards of its own", ge=1)
    block: int = option(16, help="of a stream: items that a reader gives at its turn; best those of a process's share of a batch", ge=1)

    def __attrs_post_init__(self) -> None:
        if not self.indexed and not self.items:
            raise ValueError("items = 0: expected the number of items of an epoch with indexed = false, since a stream does not say it")

    def provides(self) -> frozenset[str]:
        return frozenset({"captions", "images", "pairs"} if self.holds == "pairs" else {"images"})

    def splits(self) -> Mapping[str, str]:
        """Split → what it holds."""
        return SPLITS

    def contents(self) -> Sequence[tuple[str, str]]:
        """(name, hash) of every shard, for a fingerprint of the data (`ibllm.data_prints`); of a stream what the options say of it."""
        from ibllm_stream.samples import contents

        return contents(self)
