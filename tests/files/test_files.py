"""The dataset `files`: tables and folders, the splits, and what it says about mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ibllm_files.config import FilesConfig
from ibllm_files.dataset import FilesDataset
from ibllm_files.division import drawn, unit
from PIL import Image

from ibllm_core.errors import UserError


def picture(path: Path, colour: tuple[int, ...], size: tuple[int, int] = (40, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if len(colour) == 3 else "RGBA", size, colour).save(path)
    return path


def table(folder: Path, text: str, name: str = "captions.csv") -> FilesConfig:
    (folder / name).write_text(text, encoding="utf-8")
    return FilesConfig(path=str(folder / name), size=16, validation=0.0, test=0.0)


def test_a_table_gives_images_captions_and_languages(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (255, 0, 0))
    picture(tmp_path / "deep" / "b.png", (0, 0, 255))
    config = table(tmp_path, 'image,caption,language\na.png,"a red, flat thing",en\ndeep/b.png,ein blaues Ding,de\n')
    data = FilesDataset(config, None)
    assert dict(data.sizes()) == {"train": 2, "validation": 0, "test": 0}
    found = data.samples("train", np.array([1, 0]))
    assert found.captions == ["ein blaues Ding", "a red, flat thing"]
    assert found.languages == ["de", "en"]
    assert found.images is not None and found.images.shape == (2, 16, 16, 3)
    assert (found.images[0] == (0, 0, 255)).all() and (found.images[1] == (255, 0, 0)).all()
    assert found.questions is None and data.image_shape == (3, 16, 16)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.tsv"])
def test_other_tables_with_questions_and_splits(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "a.png", (255, 0, 0))
    picture(tmp_path / "b.png", (0, 255, 0))
    rows = [
        {"image": "a.png", "caption": "red", "split": "train", "question": "which colour", "answer": "red"},
        {"image": "b.png", "caption": "green", "split": "test", "question": "which colour", "answer": "green"},
    ]
    lines = (
        [json.dumps(row) for row in rows] if name.endswith("jsonl") else ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    )
    data = FilesDataset(table(tmp_path, "\n".join(lines), name), None)
    assert dict(data.sizes()) == {"train": 1, "validation": 0, "test": 1}
    found = data.samples("test", np.array([0]))
    assert (found.captions, found.questions, found.answers, found.languages) == (["green"], ["which colour"], ["green"], ["en"])
    with pytest.raises(KeyError, match="expected one of train, validation, test"):
        data.samples("tests", np.array([0]))


def test_a_folder_with_a_text_beside_each_image(tmp_path: Path) -> None:
    picture(tmp_path / "x" / "a.png", (1, 2, 3))
    (tmp_path / "x" / "a.txt").write_text("one caption\n\nanother  caption\n", encoding="utf-8")
    picture(tmp_path / "b.png", (3, 2, 1))
    (tmp_path / "b.txt").write_text("a third", encoding="utf-8")
    data = FilesDataset(FilesConfig(path=str(tmp_path), size=8, validation=0.0, test=0.0), None)
    found = data.samples("train", np.arange(3))
    assert found.captions == ["a third", "one caption", "another caption"]
    assert found.groups is not None and found.groups[0] != found.groups[1] == found.groups[2], "captions of one image are a group"


def test_crop_takes_the_middle_and_pad_keeps_the_whole(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 20), (255, 0, 0))
    image.paste((0, 255, 0), (20, 0, 40, 20))
    image.save(tmp_path / "a.png")
    picture(tmp_path / "clear.png", (9, 9, 9, 0), (20, 20))
    text = "image,caption\na.png,flag\nclear.png,nothing\n"
    crop = FilesDataset(table(tmp_path, text), None).samples("train", np.arange(2)).images
    assert crop is not None
    assert np.abs(crop[0].astype(int) - (0, 255, 0)).max() <= 16, "the middle square is green, up to what resampling takes from beside it"
    assert (crop[1] == 255).all(), "transparency shows the background"
    config = FilesConfig(path=str(tmp_path / "captions.csv"), size=24, fit="pad", background=(0, 0, 255), validation=0.0, test=0.0)
    pad = FilesDataset(config, None).samples("train", np.array([0])).images
    assert pad is not None
    assert (pad[0, :7] == (0, 0, 255)).all() and (pad[0, -7:] == (0, 0, 255)).all() and (pad[0, 12, 2] == (255, 0, 0)).all()


def test_drawn_splits_have_the_shares_that_are_asked_for() -> None:
    config = FilesConfig(path=".", validation=0.2, test=0.3)
    shares = {"test": config.test, "validation": config.validation}
    splits = [drawn(unit(f"content {n}", config.split_seed), shares) for n in range(2000)]
    # Fractions within four standard deviations of a draw of 2000.
    assert abs(splits.count("test") / 2000 - 0.3) < 0.041 and abs(splits.count("validation") / 2000 - 0.2) < 0.036


def mistakes(tmp_path: Path, text: str, name: str = "captions.csv") -> str:
    picture(tmp_path / "a.png", (255, 0, 0))
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        FilesDataset(table(tmp_path, text, name), None)
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\na.png,red\nb.png,blue\n", "captions.csv:3: there is no image b.png"),
        ("image,caption\na.png,\n", "captions.csv:2: the caption of a.png is empty"),
        ("image,caption\n,red\n", "captions.csv:2: the image is missing"),
        ("image,caption\na.png,red,and flat\n", "captions.csv:2: 3 cells where the header has 2"),
        ("image,captoin\na.png,red\n", "captions.csv:1: unknown column 'captoin'; did you mean 'caption'?"),
        ("image,language\na.png,en\n", "captions.csv:1: expected one column 'caption' in the header, found 0"),
        ("", "captions.csv:1: the table is empty; expected a header line with image and caption"),
        (
            'image,caption\n\n"a.png,red\n',
            "captions.csv:3: not a row of a table (unexpected end of data); a quotation mark at the "
            'beginning of a cell opens one that ends with the next; within it, it is written twice ("")',
        ),
        ("image,caption,split\na.png,red,trian\n", "captions.csv:2: unknown split 'trian'; did you mean 'train'?"),
        (
            "image,caption,split\na.png,red,train\na.png,rot,test\n",
            "captions.csv:3: the image a.png is in the split test here and in train at captions.csv:2",
        ),
        (
            "image,caption,question,answer\na.png,red,what,\n",
            "captions.csv:2: a question and its answer come together; one of them is empty",
        ),
        ("image,caption,split\na.png,red,test\n", "captions.csv: no row is left for the split train; the column split names no row for it"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    assert mistakes(tmp_path, text) == message


def test_broken_images_are_told_with_the_row_that_names_them(tmp_path: Path) -> None:
    for name in ("broken.png", "text.png"):
        assert mistakes(tmp_path, f"image,caption\na.png,red\n{name},blue\n").startswith(f"captions.csv:3: the image {name} is no image")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = mistakes(
        tmp_path, '{"image": "a.png"}\n{"image": "b.png", "caption": "x"}\n{"imag": "a.png", "caption": 3}\n{\n', "rows.jsonl"
    ).splitlines()
    assert told[0] == 'rows.jsonl: 5 problems; broken = "skip" leaves such records out'
    assert sorted(line.strip() for line in told[1:]) == [
        "rows.jsonl:1: the caption of a.png is empty",
        "rows.jsonl:2: there is no image b.png",
        "rows.jsonl:3: caption must be a text",
        "rows.jsonl:3: unknown column 'imag'; did you mean 'image'?",
        "rows.jsonl:4: not JSON (Expecting property name enclosed in double quotes at column 2)",
    ]


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    def told(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            FilesDataset(FilesConfig(path=str(path)), None)
        return str(caught.value).replace(f"{tmp_path}/", "")

    assert told(tmp_path / "no.csv") == "files: there is no file or folder no.csv"
    (tmp_path / "latin.csv").write_bytes("image,caption\na.png,Äpfel\n".encode("latin-1"))
    assert told(tmp_path / "latin.csv") == "latin.csv:2: byte 0xc4 is not UTF-8; save the file as UTF-8"
    (tmp_path / "rows.xlsx").write_bytes(b"")
    assert (
        told(tmp_path / "rows.xlsx")
        == "rows.xlsx: expected a table ending in .csv, .tsv, .jsonl, .ndjson, .json, .parquet, .arrow, .feather, .ipc, an archive, or a folder"
    )
    picture(tmp_path / "folder" / "a.png", (1, 2, 3))
    assert told(tmp_path / "folder") == "folder/a.png: its caption is missing: expected the file a.txt beside it"


def alone(path: Path, holds: str, **more: object) -> FilesDataset:
    return FilesDataset(FilesConfig(path=str(path), size=16, holds=holds, **{"validation": 0.0, "test": 0.0, **more}), None)  # type: ignore[arg-type]


def test_images_alone_come_from_a_folder_or_a_table(tmp_path: Path) -> None:
    picture(tmp_path / "x" / "a.png", (255, 0, 0))
    picture(tmp_path / "x" / "b.png", (0, 0, 255))
    (tmp_path / "rows.csv").write_text("image,split\nx/b.png,train\n")
    (tmp_path / "more.csv").write_text("image,caption\nx/b.png,\n")
    for path, items in ((tmp_path / "x", 2), (tmp_path / "rows.csv", 1), (tmp_path / "more.csv", 1)):
        data = alone(path, "images")
        found = data.samples("train", np.arange(items))
        assert data.sizes()["train"] == items and found.captions is None and found.languages is None and not data.corpus()
        assert found.images is not None and (found.images[-1] == (0, 0, 255)).all()
        assert data.config.provides() == {"images"}


def test_captions_alone_come_from_a_text_a_folder_or_a_table(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.txt").write_text("a red thing\n\na  blue thing\n")
    (tmp_path / "rows.csv").write_text("caption,image\na red thing,gone.png\na blue thing,gone.png\n")
    for path in (tmp_path / "deep" / "one.txt", tmp_path, tmp_path / "rows.csv"):
        data = alone(path, "captions")
        found = data.samples("train", np.arange(2))
        assert found.captions == ["a red thing", "a blue thing"] and found.images is None and found.languages == ["en", "en"]
        assert data.config.provides() == {"captions"} and data.corpus() == found.captions


def test_a_caption_that_comes_twice_is_in_one_split(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"number {n % 100}\n" for n in range(300)))
    data = alone(tmp_path / "texts.txt", "captions", validation=0.3, test=0.3)
    splits = [set(data.samples(split, np.arange(size)).captions or ()) for split, size in data.sizes().items()]
    assert all(splits) and sum(map(len, splits)) == 100


@pytest.mark.parametrize(
    ("holds", "text", "message"),
    [
        ("images", "caption\nred\n", "captions.csv:1: expected one column 'image' in the header, found 0"),
        ("captions", "caption\n\n,\n", "captions.csv:3: 2 cells where the header has 1"),
        ("captions", "caption,split\n,train\n", "captions.csv:2: the caption is empty"),
        ("captions", "", "captions.csv:1: the table is empty; expected a header line with caption"),
    ],
)
def test_a_mistake_in_data_of_one_kind_is_told(tmp_path: Path, holds: str, text: str, message: str) -> None:
    (tmp_path / "captions.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        alone(tmp_path / "captions.csv", holds)
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


def test_questions_that_the_recipe_promises_are_there(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (255, 0, 0))
    (tmp_path / "rows.csv").write_text("image,caption\na.png,red\n")
    with pytest.raises(UserError, match=r"rows.csv:2: there is no question: expected one in every row with questions = true"):
        alone(tmp_path / "rows.csv", "pairs", questions=True)
    (tmp_path / "rows.csv").write_text("image,caption,question,answer\na.png,red,which colour,red\n")
    data = alone(tmp_path / "rows.csv", "pairs", questions=True)
    assert data.samples("train", np.arange(1)).answers == ["red"] and data.config.provides() == {"captions", "images", "pairs", "questions"}
    with pytest.raises(ValueError, match="questions = true: expected false"):
        FilesConfig(path="x", holds="captions", questions=True)


def test_a_vocabulary_is_of_all_training_captions_however_many(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a horse\n" * 5000 + "a zebra\n")
    data = alone(tmp_path / "texts.txt", "captions")
    assert len(data.corpus()) == 5001 and data.corpus()[-1] == "a zebra" and len(data.corpus(limit=10)) == 10
