"""Every format of the dataset `files` gives the same twelve cards, and each is trained from the command line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ibllm_cli.main import main
from ibllm_files.config import Columns, FilesConfig
from ibllm_files.dataset import FilesDataset
from PIL import Image

from tests import processes

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
COUNT = 12
#: Cards 0 … 7 are for training, two each for the other splits.
SPLITS = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
RECIPE = """
extends = "{tiny}"
name = "cards"
trackers = {{ tensorboard = false }}
losses = {{ joint = false, adversarial = false, penalty = false, cycle = false }}
model = {{ discriminator = false }}
metrics = {{ scene = false, caption_facts = false, round_trip = false, chrf = {{ use = "chrf" }} }}
order = ["text", "image"]
[data]
use = "files"
path = "{path}"
size = 16
{more}
[stages.text]
steps = 2
validate = {{ every = 2, items = 2 }}
[stages.image]
steps = 2
train = ["image_encoder", "text_decoder"]
losses = {{ text_nll = 1.0, image_nll = false, adversarial = false, penalty = false }}
validate = {{ every = 2, items = 2, figure = "chrf" }}
[stages]
joint = false
[evaluation]
items = 2
samples = 1
"""


def card(number: int) -> Image.Image:
    return Image.new("RGB", (32, 24), (20 * number, 255 - 20 * number, 0))


def png(number: int) -> bytes:
    file = io.BytesIO()
    card(number).save(file, "PNG")
    return file.getvalue()


def captions(number: int) -> list[str]:
    return [f"card number {number}", f'the "{number}", a card']


def rows() -> list[dict[str, str]]:
    """A row for each caption."""
    return [{"image": f"img/{n}.png", "caption": text, "split": SPLITS[n]} for n in range(COUNT) for text in captions(n)]


def images(folder: Path) -> Path:
    (folder / "img").mkdir(parents=True)
    for number in range(COUNT):
        (folder / "img" / f"{number}.png").write_bytes(png(number))
    return folder


def plain_folder(at: Path) -> Path:
    """Folders that are called like splits, images with a text beside each."""
    for number in range(COUNT):
        folder = at / SPLITS[number]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(number))
        (folder / f"{number}.TXT").write_text("\r\n".join(captions(number)), encoding="utf-8")
    return at


def csv_table(at: Path) -> Path:
    """As a spreadsheet saves it: UTF-16, semicolons, CR."""
    with (images(at) / "cards.csv").open("w", encoding="utf-16", newline="") as file:
        writer = csv.DictWriter(file, ["image", "caption", "split"], delimiter=";", lineterminator="\r")
        writer.writeheader()
        writer.writerows(rows())
    return at / "cards.csv"


def tsv_table(at: Path) -> Path:
    """As papers write it: no quotation marks but those of the captions."""
    lines = ["image\tcaption\tsplit", *("\t".join(row.values()) for row in rows())]
    (images(at) / "cards.tsv").write_text("\n".join(lines), encoding="utf-8")
    return at / "cards.tsv"


def jsonl_table(at: Path) -> Path:
    """Lists of captions, packed."""
    lines = [json.dumps({"image": f"img/{n}.png", "caption": captions(n), "split": SPLITS[n]}) for n in range(COUNT)]
    images(at)
    with gzip.open(at / "cards.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return at / "cards.jsonl.gz"


def coco(at: Path) -> Path:
    """Captions of COCO, which have no splits of their own."""
    found = {
        "images": [{"id": 100 + n, "file_name": f"{n}.png", "height": 24} for n in range(COUNT)],
        "annotations": [
            {"id": 10 * n + k, "image_id": 100 + n, "caption": text} for n in range(COUNT) for k, text in enumerate(captions(n))
        ],
    }
    (images(at) / "annotations").mkdir()
    (at / "annotations" / "captions_train.json").write_text(json.dumps(found), encoding="utf-8")
    return at / "annotations" / "captions_train.json"


def karpathy(at: Path) -> Path:
    found = [
        {"filename": f"{n}.png", "filepath": "img", "split": SPLITS[n][:3].replace("tra", "train").replace("tes", "test"),
         "sentences": [{"raw": text} for text in captions(n)]}
        for n in range(COUNT)
    ]  # fmt: skip
    (images(at) / "dataset_cards.json").write_text(json.dumps({"images": found, "dataset": "cards"}), encoding="utf-8")
    return at / "dataset_cards.json"


def parquet(at: Path) -> Path:
    """As the Hugging Face hub has it: shards whose names say the split, images as bytes, columns of other names."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    at.mkdir()
    for split in dict.fromkeys(SPLITS):
        numbers = [n for n in range(COUNT) if SPLITS[n] == split]
        cells = {"image": [{"bytes": png(n), "path": None} for n in numbers], "text": [captions(n) for n in numbers], "id": numbers}
        pq.write_table(pa.table(cells), at / f"{split}-00000-of-00001.parquet", row_group_size=3)
    return at


def arrow(at: Path) -> Path:
    """Paths instead of bytes."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.feather as feather

    images(at)
    columns = {name: [row[name] for row in rows()] for name in ("image", "caption", "split")}
    feather.write_feather(pa.table(columns), str(at / "cards.arrow"))
    return at / "cards.arrow"


def saved_to_disk(at: Path) -> Path:
    """What `datasets` writes: a folder a split, in Arrow's stream format, and who is to read it in JSON."""
    pa = pytest.importorskip("pyarrow")
    for split in dict.fromkeys(SPLITS):
        numbers = [n for n in range(COUNT) if SPLITS[n] == split]
        folder = at / split
        folder.mkdir(parents=True)
        table = pa.table({"image": [{"bytes": png(n), "path": f"{n}.png"} for n in numbers], "caption": [captions(n) for n in numbers]})
        with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}), encoding="utf-8")
    (at / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test"]}), encoding="utf-8")
    return at


def imagefolder(at: Path) -> Path:
    """Hugging Face's `imagefolder`: a folder a split, each with its metadata.jsonl."""
    for split in dict.fromkeys(SPLITS):
        folder = at / split
        folder.mkdir(parents=True)
        lines = []
        for n in (n for n in range(COUNT) if SPLITS[n] == split):
            (folder / f"{n}.png").write_bytes(png(n))
            lines.append(json.dumps({"file_name": f"{n}.png", "text": captions(n), "license": 1}))
        (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return at


def tgz(at: Path) -> Path:
    """A packed folder."""
    folder = plain_folder(at / "cards")
    with tarfile.open(at / "cards.tgz", "w:gz") as archive:
        archive.add(folder, "cards")
    shutil.rmtree(folder)
    return at / "cards.tgz"


def zipped(at: Path) -> Path:
    """A packed table with its images."""
    table = tsv_table(at / "cards")
    with zipfile.ZipFile(at / "cards.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((at / "cards").rglob("*")):
            archive.write(path, f"cards/{path.relative_to(at / 'cards')}")
    shutil.rmtree(table.parent)
    return at / "cards.zip"


FORMATS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "folder": (plain_folder, ""),
    "csv": (csv_table, ""),
    "tsv": (tsv_table, ""),
    "jsonl": (jsonl_table, ""),
    "coco": (coco, 'images = "{at}/img"\nvalidation = 0.3\ntest = 0.3'),
    "karpathy": (karpathy, ""),
    "parquet": (parquet, 'columns = {{ caption = "text" }}'),
    "arrow": (arrow, ""),
    "saved_to_disk": (saved_to_disk, ""),
    "imagefolder": (imagefolder, ""),
    "tgz": (tgz, ""),
    "zip": (zipped, ""),
}


@pytest.mark.slow
@pytest.mark.usefixtures("plain_runs")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_read_and_trained_from_the_command_line(name: str, tmp_path: Path) -> None:
    make, more = FORMATS[name]
    path = make(tmp_path / "data")
    recipe = tmp_path / "cards.toml"
    recipe.write_text(RECIPE.format(tiny=TINY, path=path.relative_to(tmp_path), more=more.format(at="data")), encoding="utf-8")
    given = ("run", str(recipe), "--run-dir", str(tmp_path / "run"))
    # Two by processes of their own, from another folder: paths are relative to the recipe.
    code = subprocess.run(processes.ibllm(*given), cwd="/", check=False).returncode if name in ("folder", "zip") else main([*given])
    assert code == 0
    figures = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert figures["test/items"] > 0 and "test/chrf" in figures

    named = {
        "coco": {"images": str(tmp_path / "data" / "img"), "validation": 0.3, "test": 0.3},
        "parquet": {"columns": Columns(caption="text")},
    }
    data = FilesDataset(FilesConfig(path=str(path), size=16, **named.get(name, {})), None)  # type: ignore[arg-type]
    seen: dict[str, set[str]] = {}
    for split, size in data.sizes().items():
        found = data.samples(split, np.arange(size))
        assert found.images is not None and found.captions is not None and found.groups is not None
        for image, caption, group in zip(found.images, found.captions, found.groups, strict=True):
            number = int(image[0, 0, 0]) // 20
            assert (image == (20 * number, 255 - 20 * number, 0)).all() and caption in captions(number)
            seen.setdefault(split if name != "coco" else "", set()).add(f"{number} {group}")
            assert caption in captions(number)
    wanted = {split: {n for n in range(COUNT) if SPLITS[n] == split} for split in SPLITS} if name != "coco" else {"": set(range(COUNT))}
    assert {split: {int(one.split()[0]) for one in some} for split, some in seen.items()} == wanted, "every card is there, in its split"
    assert sum(map(len, seen.values())) == COUNT, "both captions of a card are of one group"
    assert sum(data.sizes().values()) == 2 * COUNT
