"""``ibllm scene``, and the page that it writes."""

from __future__ import annotations

import html.parser
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ibllm_cli.main import main
from ibllm_scene.page import render
from ibllm_scene.world import draw
from PIL import Image

from tests.scene.conftest import Oracle

SCRIPT = "title: <b>Fair</b> & square\n0, 0: a large red circle\n1.5, 1: a small blue square\n"


@pytest.fixture
def model() -> Oracle:
    return Oracle()


@pytest.fixture
def shell(
    model: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """``shell("fair.txt", …)``: exit code, standard output and error of the command, in a folder with that script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ibllm.open", lambda path, device=None: model)
    Path("fair.txt").write_text(SCRIPT, encoding="utf-8")

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["scene", "runs/joint", *words])
        return code, *capsys.readouterr()

    return run


class Tags(html.parser.HTMLParser):
    """The tags of a page, its text, and where it would load something from."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text, self.loads = list[str](), list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset") and not (value or "").startswith("#")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_it_writes_a_page_that_loads_nothing_from_elsewhere(shell: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = shell("fair.txt", "-o", "out/fair.html")
    assert code == 0 and "2 of 2 regions read back as asked" in out
    page = Path("out/fair.html").read_text(encoding="utf-8")
    found = Tags(page)
    assert not found.loads and "b" not in found.tags and "default-src 'none'" in page
    assert not re.findall(r"url\((?!\"data:image/png;base64,)|https?://", page)
    text = " ".join(" ".join(found.text).split())
    assert "<b>Fair</b> & square" in text and "a small blue square at the" in text and "line 2 of the script" in text


def test_the_picture_alone_is_the_world_enlarged(shell: Callable[..., tuple[int, str, str]], model: Oracle) -> None:
    assert shell("fair.txt", "-o", "fair.png", "--enlarge", "3", "--seed", "2")[0] == 0
    scene = draw(model, SCRIPT, seed=2)
    with Image.open("fair.png") as image:
        np.testing.assert_array_equal(np.asarray(image), scene.pixels.repeat(3, 0).repeat(3, 1))


def test_the_object_tells_every_region(shell: Callable[..., tuple[int, str, str]], model: Oracle) -> None:
    model.drawing.spoiled["red"] = "green"
    code, out, _ = shell("fair.txt", "-o", "fair.html", "--json")
    found = json.loads(out)
    assert code == 0 and (found["width"], found["height"], found["together"]) == (48, 32, False)
    first = next(region for region in found["regions"] if region["lines"] == [2])
    assert not first["agrees"] and not first["shown"] and "green" in first["read"] and "red" in first["asked"]


def test_nothing_is_written_over_unasked_nor_by_halves(shell: Callable[..., tuple[int, str, str]], model: Oracle) -> None:
    Path("fair.html").write_text("kept", encoding="utf-8")
    code, _, err = shell("fair.txt", "-o", "fair.html")
    assert code == 2 and "is there already" in err and Path("fair.html").read_text(encoding="utf-8") == "kept"
    Path("fair.txt").write_text("0, 0: a large red circle\n0.5, 0: a large red cow\n", encoding="utf-8")
    code, _, err = shell("fair.txt", "-o", "new.html")
    assert code == 2 and "fair.txt:2: nearer than a cell to line 1" in err and "fair.txt:2: 'a large red cow' is nothing" in err
    assert sorted(path.name for path in Path().iterdir()) == ["fair.html", "fair.txt"]
    assert shell("fair.txt", "-o", "fair.html", "--steps", "4", "--overwrite")[0] == 2, "the decoder has no steps"


def test_a_script_may_come_from_standard_input(shell: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a wombat\n")))
    code, _, err = shell("-", "-o", "x.html")
    assert code == 2 and "standard input:1: 'a wombat' is no caption of these data" in err


@pytest.mark.parametrize(("words", "told"), [((), "where to?"), (("-o", "fair.gif"), "expected a name that ends in .html")])
def test_where_to_write_is_asked_before_anything_is_drawn(
    shell: Callable[..., tuple[int, str, str]], model: Oracle, words: tuple[str, ...], told: str
) -> None:
    code, _, err = shell("fair.txt", *words)
    assert code == 2 and told in err and not model.drawing.batches


def test_what_differs_is_marked_in_words(model: Oracle) -> None:
    model.drawing.spoiled["red"] = "green"
    page = render(draw(model, SCRIPT))
    assert "<mark>red</mark>" in page and "<mark>green</mark>" in page and page.count("<mark>") == 2
    assert page.count("The model reads something else") == 1 and "1 of 2 regions read back by the model as asked" in page


def test_captions_may_be_chinese() -> None:
    model = Oracle(False, True, "data.languages=['zh']")
    scene = draw(model, "0, 0: 一个红色的大圆形\n1.5，1：一个蓝色的小正方形")
    assert len(scene.regions) == 2 and all(region.shown for region in scene.regions)
    assert all("有一个" in window.caption for window in scene.plan.windows)
