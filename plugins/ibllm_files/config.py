"""The options of the dataset `files`. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from ibllm.plugin import Config, StoredImagesConfig, option

SPLITS: Mapping[str, str] = {
    "train": "items seen in training",
    "validation": "items not trained on, looked at during training",
    "test": "items never seen in training",
}


@attrs.frozen(kw_only=True)
class Columns(Config):
    """The names of a table's columns, where they are others: ``columns = { image = "file_name", caption = "text" }``."""

    image: str = option("", help="the column of images")
    caption: str = option("", help="the column of captions")
    language: str = option("", help="the column of the captions' languages")
    split: str = option("", help="the column of splits")
    question: str = option("", help="the column of questions")
    answer: str = option("", help="the column of answers")
    written_by: str = option("", help="the column of what wrote the captions")


@attrs.frozen(kw_only=True)
class FilesConfig(StoredImagesConfig):
    """Your own images and captions.

    A table (.csv and .tsv with a header line, .jsonl) has the columns ``image`` (a path, relative to the table) and ``caption``, a text or a
    list of them, and may have ``language``, ``split`` (train, validation, test), ``question``, ``answer`` and ``written_by`` (what wrote the caption, where no
    person did: a run tells how many there are); an image may stand in several rows. In a folder every image, at any depth, has its
    captions in a .txt file of the same name, one a line.

    Captions of COCO (.json), Parquet and Arrow files, folders of Hugging Face `datasets` (``save_to_disk``, ``imagefolder``, shards of Parquet),
    and archives (.zip, .tar, .tgz) of all of these are read, too.

    With `holds` the data may be images alone (a table without captions, or a folder of images) or captions alone (a table without images, a
    .txt file with one a line, or a folder of such files).
    """

    path: str = option(help="the table or the folder; relative to the recipe that names it", path="file or folder")
    holds: str = option(
        "pairs", help="pairs of images and captions, images alone, or captions alone", choices=("pairs", "images", "captions")
    )
    images: str = option(
        "", help="the folder or archive that a table's images are in, where that is not the table's own", path="file or folder"
    )
    table: str = option("", help="the table to read in a folder or an archive, where there are several")
    columns: Columns = option(factory=Columns, help="other names of a table's columns: the value is the name that the table has")
    outside: bool = option(False, help="a table may name images outside of its folder, by .. or by a path from the root")
    questions: bool = option(False, help="every row of the table has a question and its answer; losses on answers ask for it")
    language: str = option("en", help="language (ISO 639) of the captions that do not name theirs")
    validation: float = option(
        0.1,
        help="fraction of the images (of the captions, where there are no images) for the split validation, where the table has no column split",
        ge=0,
        lt=1,
    )
    test: float = option(0.1, help="fraction of them for the split test, where the table has no column split", ge=0, lt=1)
    split_seed: int = option(0, help="seed of that division; apart from the run's seed, so that seeds compare on the same images", ge=0)

    def __attrs_post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test = {self.validation + self.test:g}: expected less than 1")
        if self.questions and self.holds == "captions":
            raise ValueError('questions = true: expected false with holds = "captions", since questions are about images')

    def provides(self) -> frozenset[str]:
        held = {"pairs": {"captions", "images", "pairs"}}.get(self.holds, {self.holds})
        return frozenset(held | ({"questions"} if self.questions else set()))

    def splits(self) -> Mapping[str, str]:
        """Split → what it holds."""
        return SPLITS

    def contents(self) -> Sequence[tuple[str, str]]:
        """Every row: its image's path within the data, and a hash of all that it holds (`ibllm.data_prints`)."""
        from ibllm_files.contents import contents

        return contents(self)
