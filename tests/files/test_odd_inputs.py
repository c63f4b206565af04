"""What people's files are like: nothing is misread, nothing is left out without a word, and a mistake is told with its likely cause."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_cli.main import main
from ibllm_files.config import Columns, FilesConfig
from ibllm_files.dataset import FilesDataset
from ibllm_files.division import drawn, remedy
from PIL import Image

from ibllm_core.errors import UserError

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


def picture(path: Path, tone: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (tone, 255 - tone, 7)).save(path)
    return path


def data(path: Path, **options: Any) -> FilesDataset:
    return FilesDataset(FilesConfig(path=str(path), size=16, **{"validation": 0.0, "test": 0.0, **options}), None)


def captions(path: Path, **options: Any) -> list[str]:
    found = data(path, **options)
    return list(found.samples("train", np.arange(found.sizes()["train"])).captions or ())


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        data(path, **options)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    """A folder with some pictures."""
    for tone, name in enumerate(["a.png", "IMG_1.JPG", "deep/x.png", unicodedata.normalize("NFD", "café.png")]):
        picture(tmp_path / name, 10 * tone)
    return tmp_path


def table(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("t.csv", "image,caption\na.png,one\u2028two\u0085three\x0cfour\n", ["one two three four"]),
        ("t.csv", 'image,caption\r\na.png,"one\r\ntwo ""quoted"""\r\na.png,three\r\n', ['one two "quoted"', "three"]),
        ("t.csv", "\ufeffimage;caption\ra.png;one, two\r;\r", ["one, two"]),
        ("t.csv", "sep=|\nimage|caption\na.png|one; two\n", ["one; two"]),
        ("t.csv", "caption\timage\none\ta.png\n".encode("utf-16-le"), ["one"]),
        ("t.csv", "Image, Caption\na.png,\"['one', 'two']\"\na.png,[sic] three\n", ["one", "two", "[sic] three"]),
        ("t.tsv", 'image\tcaption\na.png\t"one" two\na.png\t"three\na.png\tfour"\n', ['"one" two', '"three', 'four"']),
        ("t.tsv", 'image\tcaption\na.png\t"one ""two"""\n', ['one "two"']),
        ("t.tsv", 'image\tcaption\na.png\t"one\ntwo"\n', ["one two"]),
        ("t.jsonl", '{"image": "a.png", "caption": "one\u2028two"}\r{"image": "a.png", "caption": ["three", "four"]}', ["one two", "three", "four"]),
        ("t.json", '[{"image": "a.png", "caption": "one"}]', ["one"]),
    ],
)  # fmt: skip
def test_tables_of_spreadsheets_and_papers_are_read(cards: Path, name: str, text: str | bytes, wanted: list[str]) -> None:
    assert captions(table(cards, text, name)) == wanted


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "image,caption\nimg_1.jpg,x\n", "t.csv:2: there is no image img_1.jpg; there is IMG_1.JPG: capital and small letters differ"),
        ("t.csv", "image,caption\ncafé.png,x\n", "whose name is written with other Unicode characters that look the same (NFC and NFD)"),
        ("t.csv", "image,caption\ndeep\\x.png,x\n", "there is no image deep\\x.png; did you mean deep/x.png, with / between folders?"),
        ("t.csv", "image,caption\na.jpg,x\n", "t.csv:2: there is no image a.jpg; did you mean a.png?"),
        ("t.csv", "image,caption\n../a.png,x\n", "t.csv:2: the image ../a.png lies outside of"),
        ("t.csv", "image,caption\n/etc/a.png,x\n", "t.csv:2: the image /etc/a.png lies outside of"),
        ("t.csv", "image,caption\nC:\\a.png,x\n", "outside = true lets a table name such files"),
        ("t.csv", "image,caption\na\0.png,x\n", "t.csv:2: the image a\\x00.png has a NUL character in its name"),
        ("t.csv", "image,caption\na.png,\u200b\ufe0f\u3164\n", "t.csv:2: the caption of a.png is empty"),
        ("t.csv", 'image,caption\na.png,"he" said\n', 'within it, it is written twice ("")'),
        ("t.csv", "image,caption\nhttps://x.org/a.jpg,x\n", "t.csv:2: the image https://x.org/a.jpg is a URL; files reads what is on disk. img2dataset"),
        ("t.csv", "image_url,caption\nhttps://x.org/a.jpg,x\n", "'image_url' has URLs: files reads what is on disk. img2dataset"),
        ("t.csv", "picture,caption\na.png,x\n", "but 'picture'; columns = { image = \"picture\" } would name one"),
        ("t.jsonl", '{"image": "a.png", "caption": "a smile \\ud83d"}\n', "t.jsonl:1: the caption has half of a surrogate pair, \\ud83d"),
        ("t.jsonl", '{"image": "a.png", "caption": ["one", ""]}\n', "t.jsonl:1: the caption of a.png is empty"),
        ("t.jsonl", '{"image": "a.png", "caption": ["one", "two"], "language": ["en", "de", "fr"]}\n', "3 languages for 2 captions"),
        ("t.json", '{"images": [], "annotations": [{"bbox": []}]}', "expected a file such as captions_train2017.json"),
        ("t.json", '{"images": [{"id": 1}], "annotations": [{"id": 5, "image_id": 2, "caption": "x"}]}', "annotation 5: there is no image with the id 2"),
        ("t.parquet", b"nothing", "t.parquet: cannot be read ("),
        ("t.zip", b"nothing", "t.zip: cannot be read ("),
        ("t.tgz", b"nothing", "t.tgz: cannot be read ("),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_likely_cause(cards: Path, name: str, text: str | bytes, message: str) -> None:
    assert message in refused(table(cards, text, name))


def test_what_is_no_image_is_told_with_what_it_is(cards: Path) -> None:
    for name, content in [("page.jpg", "\n<html>"), ("empty.jpg", ""), ("pointer.jpg", "version https://git-lfs.github.com/spec/v1\n")]:
        (cards / name).write_text(content)
    said = refused(table(cards, "image,caption\npage.jpg,x\nempty.jpg,x\npointer.jpg,x\n")).splitlines()[1:]
    none = "is no image of a kind that Pillow reads; "
    assert [line.partition(none)[2] for line in said] == [
        "it is a page of HTML or XML",
        "there is nothing in it",
        "it is a pointer of Git LFS, and git lfs pull fetches the image",
    ]


def test_twenty_mistakes_are_named_in_their_order(cards: Path) -> None:
    said = refused(table(cards, "image,caption\n" + "".join(f"{n}.png,x\n" if n % 2 else "a.png,\n" for n in range(30)))).splitlines()
    assert said[0] == 't.csv: 30 problems; broken = "skip" leaves such records out' and said[-1] == "  … and 10 more"
    assert [line.split(":")[1] for line in said[1:-1]] == [str(line) for line in range(2, 22)]


def test_columns_may_be_called_otherwise(cards: Path) -> None:
    path = table(cards, '{"file_name": "a.png", "text": ["ein Ding", "une chose"], "lang": ["de", "fr"], "w": 3}\n', "t.jsonl")
    columns = Columns(image="file_name", caption="text", language="lang")
    found = data(path, columns=columns)
    assert found.samples("train", np.arange(2)).languages == ["de", "fr"]
    assert found.notes() == [f"{path} has 1 column that is not used (w)"]
    assert "columns.image = 'filename': the table has no such column; did you mean 'file_name'?" in refused(
        path, columns=Columns(image="filename")
    )


def test_a_folder_tells_what_it_passes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, other = tmp_path / "mine", tmp_path / "other"
    picture(folder / "a.png")
    (folder / "a.TXT").write_text("one\u2028still one\n\u200b\n", encoding="utf-8")
    picture(folder / ".ipynb_checkpoints" / "a-checkpoint.png")
    for name in ("._a.png", "b.heic", "c.heic", "d.mov", "notes.txt"):
        (folder / name).write_bytes(b"x")
    picture(other / "e.tif", 9)
    (other / "e.txt").write_text("two")
    for link, target in (("linked", other), ("loop", folder), ("gone.png", tmp_path / "gone")):
        os.symlink(target, folder / link)
    monkeypatch.setattr("ibllm_files.folder.readable", lambda: frozenset({".png", ".tif"}))
    assert captions(folder) == ["one still one", "two"]
    assert data(folder).notes() == [
        f"{folder} has 2 hidden files and folders, which are passed over (._a.png, .ipynb_checkpoints)",
        f"{folder} has 1 link to nothing, or device, which is passed over (gone.png)",
        f"{folder} has 1 folder that a link leads to once more, which is read once (loop)",
        f"{folder} has 2 files ending in .heic, which are not read (pip install pillow-heif reads them)",
        f"{folder} has 1 file ending in .mov, which is not read",
        f"{folder} has 1 text without an image beside it, which is not used (notes.txt)",
    ]
    shutil.rmtree(other)
    (folder / "a.png").unlink()
    assert "there are 2 .heic (pip install pillow-heif reads them), 1 .mov" in refused(folder)


@pytest.mark.parametrize(
    ("sidecar", "said"), [("B.txt", "b.txt beside it; there is B.txt"), ("b.png.txt", "b.txt beside it; there is b.png.txt")]
)
def test_a_text_that_is_called_otherwise_is_named(tmp_path: Path, sidecar: str, said: str) -> None:
    picture(tmp_path / "mine" / "b.png")
    (tmp_path / "mine" / sidecar).write_text("x")
    assert said in refused(tmp_path / "mine")


def test_one_picture_under_two_names_is_in_one_split_wherever_it_lies(tmp_path: Path) -> None:
    lines = ["image,caption"]
    for tone in range(60):
        picture(tmp_path / "mine" / f"{tone}.png", tone)
        shutil.copy(tmp_path / "mine" / f"{tone}.png", tmp_path / "mine" / f"copy of {tone}.png")
        lines += [f"{tone}.png,{tone}", f"./{tone}.png,{tone}", f"b/../copy of {tone}.png,{tone}"]
    path = table(tmp_path / "mine", "\n".join(lines))

    def splits(path: Path) -> dict[str, list[str]]:
        found = data(path, validation=0.2, test=0.2)
        return {split: list(found.samples(split, np.arange(size)).captions or ()) for split, size in found.sizes().items()}

    first = splits(path)
    assert all(first.values()) and sum(len(set(some)) for some in first.values()) == 60
    shutil.move(tmp_path / "mine", tmp_path / "elsewhere")
    assert splits(tmp_path / "elsewhere" / "t.csv") == first


def test_rows_that_do_not_go_with_the_others_are_left_out_too(cards: Path) -> None:
    path = table(cards, "image,caption,split\na.png,x,train\na.png,y,test\nIMG_1.JPG,z,\ndeep/x.png,u,train\n")
    assert captions(path, broken="skip", max_broken=0.5) == ["x", "u"]
    assert [line.partition("t.csv:")[2].partition(":")[0] for line in data(path, broken="skip", max_broken=0.5).left_out()] == ["3", "4"]
    assert "3 of 4" not in refused(path) and "t.csv:3: the image" in refused(path) and "t.csv:4: split is empty" in refused(path)


def test_pictures_that_given_splits_share_are_told(cards: Path) -> None:
    shutil.copy(cards / "a.png", cards / "b.png")
    found = data(table(cards, "image,caption,split\na.png,x,train\ndeep/x.png,y,train\nb.png,x,test\n"))
    said = f"1 picture of train is in other splits, too, so their figures are too good: {cards}/a.png (train) = {cards}/b.png (test)"
    assert any(said in note for note in found.notes())


def test_a_split_that_is_not_given_is_drawn_from_train(tmp_path: Path) -> None:
    lines = ["image,caption,split"]
    for tone in range(80):
        picture(tmp_path / f"{tone}.png", tone)
        lines.append(f"{tone}.png,{tone},{'dev' if tone < 5 else 'train'}")
    found = data(table(tmp_path, "\n".join(lines)), test=0.25, validation=0.25)
    assert found.sizes()["validation"] == 5 and 0 < found.sizes()["test"] < 40, "dev is another word for validation"
    assert f"{tmp_path}/t.csv: the split test is drawn from train" in found.notes()


def test_what_an_archive_may_not_hold_is_passed_over_and_never_followed(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in [("in/a.png", png.getvalue()), ("../out.png", png.getvalue()), ("/abs.png", png.getvalue()),
                              ("in/._a.png", b"x"), ("in/t.csv", b"image,caption\na.png,x\n")]:  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("in/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert captions(tmp_path / "a.tar") == ["x"]
    assert [note.partition(" has ")[2] for note in data(tmp_path / "a.tar").notes()] == [
        "2 members that would lie outside of the archive, which are passed over (../out.png, /abs.png)",
        "1 hidden file or folder, which is passed over (in/._a.png)",
        "1 link, which is not followed (in/link.png)",
    ]
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive_of_tables:
        archive_of_tables.writestr("t.csv", "image,caption\nlink.png,x\n../a.png,x\nb.png,x\n")
        archive_of_tables.writestr("u.csv", "caption\nx\n")
        archive_of_tables.writestr("B.png", png.getvalue())
    assert refused(tmp_path / "b.zip") == "b.zip: it has several tables, t.csv, u.csv: table = names one"
    said = refused(tmp_path / "b.zip", table="t.csv").splitlines()
    assert said[1:] == [
        "  b.zip/t.csv:2: there is no image b.zip/link.png",
        "  b.zip/t.csv:3: the image ../a.png lies outside of b.zip",
        "  b.zip/t.csv:4: there is no image b.zip/b.png; there is B.png: capital and small letters differ",
    ]


def test_a_folder_that_changed_is_read_again(tmp_path: Path) -> None:
    picture(tmp_path / "mine" / "a.png")
    (tmp_path / "mine" / "a.txt").write_text("one")
    assert captions(tmp_path / "mine") == ["one"]
    (tmp_path / "mine" / "a.txt").write_text("two\nthree")
    assert captions(tmp_path / "mine") == ["two", "three"]


@pytest.mark.parametrize("little", [0, 1 << 22])
def test_images_in_parquet_are_the_same_however_they_are_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, little: int) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq
    from ibllm_files import arrow

    monkeypatch.setattr(arrow, "_LITTLE", little)
    files = [picture(tmp_path / f"{tone}.png", tone) for tone in range(0, 200, 20)]
    cells = [{"bytes": path.read_bytes(), "path": None} for path in files[:-1]] + [{"bytes": None, "path": files[-1].name}]
    pq.write_table(pa.table({"image": cells, "caption": [path.stem for path in files]}), tmp_path / "t.parquet", row_group_size=4)
    found = data(tmp_path / "t.parquet")
    order = np.random.default_rng(0).permutation(10)
    images = found.samples("train", order).images
    assert images is not None and images[:, 0, 0, 0].tolist() == [20 * number for number in order.tolist()]
    assert any("is unpacked into the cache" in note for note in found.notes()) == (not little)


def test_images_of_coco_may_be_in_an_archive(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "train2017.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "train2017/a.png")
    found = {"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}], "annotations": [{"image_id": 1, "caption": "x"}]}
    (tmp_path / "captions.json").write_text(json.dumps(found))
    (tmp_path / "a.png").unlink()
    assert captions(tmp_path / "captions.json", images=str(tmp_path / "train2017.zip")) == ["x"]
    notes = data(tmp_path / "captions.json", images=str(tmp_path / "train2017.zip")).notes()
    assert notes == [f"{tmp_path}/captions.json has 1 image without a caption (b.png)"]


OWN = """
extends = "{tiny}"
trackers = {{ tensorboard = false }}
metrics = {{ scene = false, caption_facts = false, round_trip = false, chrf = {{ use = "chrf" }} }}
losses = {{ joint = false, adversarial = false, penalty = false, cycle = false, text_nll = false }}
model = {{ discriminator = false }}
order = ["text"]
data = {{ use = "files", path = "t.csv", size = 16 }}
[stages]
image = false
joint = false
text.steps = 2
text.validate.every = 2
[evaluation]
items = 2
samples = 1
"""


@pytest.fixture
def recipe(cards: Path) -> Path:
    """A recipe over a table of eight rows in a folder of pictures."""
    for tone in range(8):
        picture(cards / f"{tone}.png", tone)
    table(cards, "image,caption\n" + "".join(f"{n}.png,card {n}\n" for n in range(8)))
    (cards / "own.toml").write_text(OWN.format(tiny=TINY), encoding="utf-8")
    return cards / "own.toml"


@pytest.mark.parametrize(
    ("given", "absent", "key"), [("validation", "test", "evaluation.splits"), ("test", "validation", "stages.text.validate.split")]
)
def test_a_run_that_would_use_an_empty_split_is_refused_with_the_option_that_helps(
    recipe: Path, given: str, absent: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table(recipe.parent, "image,caption,split\n" + "".join(f"{n}.png,card {n},{given if n > 5 else 'train'}\n" for n in range(8)))
    run = recipe.with_name("run")
    assert main(["run", str(recipe), "--run-dir", str(run), f"--set=data.{absent}=0"]) == 2
    said = f'{key}: the split "{absent}" has no items: data.{absent} = 0.1 would draw it from train, and a column split says which they are'
    assert said in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize("places", [[0.31, 0.5, 0.9], [0.105, 0.11, 0.6, 0.7], [0.25, 0.995]])
def test_the_fraction_that_is_said_to_help_does(places: list[float]) -> None:
    for split in ("test", "validation"):
        shares = {"test": 0.1, "validation": 0.0}
        assert split not in [drawn(place, shares) for place in places]
        said = remedy(split, places, shares)
        shares[split] = float(said.partition(f"{split} = ")[2].partition(" ")[0])
        assert split in [drawn(place, shares) for place in places] and "train" in [drawn(place, shares) for place in places]
    assert remedy("test", [0.99], shares) == "there are too few to be divided by chance (1): give the table a column split"


@pytest.mark.slow
@pytest.mark.usefixtures("plain_runs")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_records_are_left_out_and_listed_in_the_run(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n}.png,card {n},{split}\n" for n, split in enumerate(["train"] * 4 + ["validation"] * 2 + ["test"] * 2))
    table(recipe.parent, f"image,caption,split\n{rows}gone.png,x,train\n0.png,,train\n")
    run = recipe.with_name("run")
    sets = ["--run-dir", str(run), "--set=data.broken='skip'"]
    assert main(["run", str(recipe), *sets]) == 2
    assert "2 of 10 records are broken, more than max_broken = 0.01 lets be left out" in capsys.readouterr().err
    assert main(["run", str(recipe), *sets, "--set=data.max_broken=0.2"]) == 0
    where = f"{recipe.parent}/t.csv"
    assert (run / "left-out.txt").read_text(encoding="utf-8").splitlines() == [
        f"{where}:10: there is no image {recipe.parent}/gone.png",
        f"{where}:11: the caption of 0.png is empty",
    ]
    notices = json.loads((run / "run.json").read_text(encoding="utf-8"))["notices"]
    assert f"{where}: 2 of 10 records are broken and left out" in notices
