"""``ibllm generate``, ``walk`` and ``roundtrip``: what they write, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_use import pictures
from PIL import Image

from .conftest import FLOW

Shell = Callable[..., Any]
CIRCLE, RING = "a small red circle at the top left", "a large blue ring at the bottom right"


def test_one_text_gives_the_picture_as_the_model_draws_it(shell: Shell, run: Path, tmp_path: Path) -> None:
    said = shell("generate", run, CIRCLE, "-o", "out.png")
    assert said.code == 0, said.err
    assert said.out == f"out.png\t{CIRCLE}\n"
    first = np.asarray(Image.open(tmp_path / "out.png"))
    assert first.shape == (32, 32, 3)
    shell("generate", run, CIRCLE, "-o", "again.png")
    shell("generate", run, CIRCLE, "-o", "other.png", "--seed", "1")
    assert (np.asarray(Image.open(tmp_path / "again.png")) == first).all()
    assert (np.asarray(Image.open(tmp_path / "other.png")) != first).any()


def test_several_pictures_are_a_sheet_or_a_file_each(shell: Shell, run: Path, tmp_path: Path) -> None:
    said = shell("generate", run, "-", "-n", "3", "-o", "drawn/", typed=f"{CIRCLE}\n\n  {RING}\n".encode())
    files = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert files == [f"{k:03}-{text.replace(' ', '-')}-{n}.png" for k, text in enumerate((CIRCLE, RING), 1) for n in (1, 2, 3)], said.err
    drawn = {np.asarray(Image.open(tmp_path / "drawn" / name)).tobytes() for name in files}
    assert len(drawn) == 6, "each has noise of its own"
    (tmp_path / "texts.txt").write_text(f"{CIRCLE}\n{RING}\n", encoding="utf-8")
    assert shell("generate", run, "--from", "texts.txt", "-n", "3", "-o", "sheet.png").code == 0
    sheet = Image.open(tmp_path / "sheet.png")
    place = pictures.GAP, sheet.height - pictures.GAP - 4 - 128
    corner = np.asarray(sheet.convert("RGB").crop((*place, place[0] + 128, place[1] + 128)))[::4, ::4]
    single = np.asarray(Image.open(tmp_path / "drawn" / files[3]))
    assert (corner == single).all(), "a sheet enlarges pixels, and changes none"


def test_json_is_all_that_standard_output_has(shell: Shell, run: Path) -> None:
    said = shell("generate", run, CIRCLE, RING, "-n", "2", "-o", "drawn", "--json", "--best-of", "2")
    assert [item["text"] for item in said.json["items"]] == [CIRCLE, RING]
    assert all(Path(file).is_file() for item in said.json["items"] for file in item["files"])
    assert said.json["best_of"] == 2
    assert any("best of 2 drawings by the model's own reading" in notice for notice in said.notices)


def test_what_is_there_stays_unless_it_may_be_written_over(shell: Shell, run: Path, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"mine")
    said = shell("generate", run, CIRCLE, "-o", "out.png")
    assert said.code == 2
    assert "out.png is there already; choose another name, or write over it with --overwrite" in said.err
    assert (tmp_path / "out.png").read_bytes() == b"mine"
    assert shell("generate", run, CIRCLE, "-o", "out.png", "--overwrite").code == 0
    assert Image.open(tmp_path / "out.png").size == (32, 32)


def test_nothing_half_written_is_left(shell: Shell, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(image: Image.Image, file: Any, *_: Any, **__: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", breaks)
    said = shell("generate", run, CIRCLE, "-o", "deep/out.png")
    assert said.code == 2
    assert "deep/out.png: No space left on device" in said.err
    assert list((tmp_path / "deep").iterdir()) == []


def test_words_that_were_never_seen_and_texts_that_are_cut_are_told_once(shell: Shell, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibllm_use.common.CHUNK", 1)
    long = " ".join([CIRCLE] * 5)
    said = shell("generate", run, "a red whale", "a blue walrus", long, "-o", "drawn", "--json")
    assert said.code == 0, said.err
    assert sum("whale" in notice and "walrus" in notice for notice in said.notices) == 1, said.notices
    assert sum("cut" in notice for notice in said.notices) == 1, said.notices


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "RUN", "-o", "a.png"], "no text: give it as an argument, by --from FILE (one a line), or by - from standard input"),
        (["generate", "RUN", CIRCLE], "where to? -o out.png, or -o folder/ for a file each"),
        (["generate", "RUN", CIRCLE, "-o", "a.doc"], "a.doc: expected a name that ends in .png, .jpg"),
        (["generate", "nowhere", CIRCLE, "-o", "a.png"], "nowhere"),
        (["generate", ".", CIRCLE, "-o", "a.png"], "recipe.toml"),
        (["generate", "RUN", CIRCLE, "-o", "a.png", "--guidance", "3"], "guidance"),
        (["generate", "RUN", "--from", "none.txt", "-o", "a.png"], "none.txt: No such file"),
        (["generate", "RUN", CIRCLE, "-o", "a.png", "--device", "cuda:99"], "cuda:99"),
        (["walk", "RUN", CIRCLE, "-o", "a.png"], "expected at least two texts to walk between, or one with --noise"),
        (["walk", "RUN", CIRCLE, RING, "--noise", "-o", "a.png"], "--noise walks the noise of one text"),
        (["walk", "FLOW", CIRCLE, "--noise", "-o", "a.png"], "does not draw in one pass of text and noise"),
        (["roundtrip", "RUN", "missing.png"], "there is no image missing.png"),
        (["roundtrip", "RUN", CIRCLE, "-o", "a.txt"], "a.txt: expected a name that ends in .html, .png"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    shell: Shell, trained: Callable[..., Path], tmp_path: Path, words: list[str], message: str
) -> None:
    runs = {"RUN": trained(), "FLOW": trained(FLOW)} if "FLOW" in words else {"RUN": trained()}
    said = shell(*(runs.get(word, word) for word in words))
    assert said.code == 2
    assert message in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_decoder_with_steps_and_guidance_takes_them(shell: Shell, trained: Callable[..., Path], tmp_path: Path) -> None:
    flow = trained(FLOW)
    for name, more in {"a": [], "b": ["--steps", "2"], "c": ["--guidance", "4"]}.items():
        said = shell("generate", flow, CIRCLE, "-o", f"{name}.png", *more)
        assert said.code == 0, said.err
    assert len({np.asarray(Image.open(tmp_path / f"{name}.png")).tobytes() for name in "abc"}) == 3


def test_a_walk_begins_and_ends_at_its_texts(shell: Shell, run: Path, tmp_path: Path) -> None:
    assert shell("generate", run, CIRCLE, "-o", "start.png").code == 0
    said = shell("walk", run, CIRCLE, RING, "a red circle", "--steps", "5", "-o", "walk.webp", "--json")
    assert said.json["pictures"] == 9
    film = Image.open(tmp_path / "walk.webp")
    assert (film.n_frames, film.info["loop"]) == (9, 0)
    first = np.asarray(film.convert("RGB"))[::4, ::4]
    assert (first == np.asarray(Image.open(tmp_path / "start.png"))).all(), "WebP is lossless here"
    shell("walk", run, CIRCLE, RING, "--steps", "4", "-o", "strip.png")
    strip = Image.open(tmp_path / "strip.png")
    assert strip.width == 4 * (128 + pictures.GAP) + pictures.GAP


def test_a_walk_of_the_noise_keeps_the_text(shell: Shell, run: Path, tmp_path: Path) -> None:
    said = shell("walk", run, CIRCLE, "--noise", "--through", "3", "--steps", "4", "--seconds", "0.05", "-o", "noise.gif", "--json")
    assert (said.json["pictures"], said.json["noise"]) == (7, True)
    film = Image.open(tmp_path / "noise.gif")
    assert film.info["duration"] == 50
    shell("generate", run, CIRCLE, "--seed", "2", "-o", "last.png")
    shell("walk", run, CIRCLE, "--noise", "--through", "3", "--steps", "4", "-o", "noise.apng")
    film = Image.open(tmp_path / "noise.apng")
    film.seek(6)
    assert (np.asarray(film.convert("RGB"))[::4, ::4] == np.asarray(Image.open(tmp_path / "last.png"))).all()


def test_a_round_trip_shows_every_leg(shell: Shell, run: Path, tmp_path: Path) -> None:
    Image.new("L", (50, 20), 128).save(tmp_path / "grey.png")
    said = shell("roundtrip", run, CIRCLE, "grey.png", "-o", "trips.html", "--json")
    text, image = said.json["items"]
    assert (text["given"], text["text"], image["given"], image["image"]) == ("text", CIRCLE, "image", "grey.png")
    assert text["returned"] == (text["read"] == CIRCLE)
    page = (tmp_path / "trips.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3, "a drawing, and an image with its drawing"
    assert escape(image["read"]) in page
    assert "http" not in page, "it needs no network"
    assert shell("roundtrip", run, CIRCLE, "-o", "trips.png").out.startswith(f"{CIRCLE}\tdrawn, then read:\t")
    assert json.dumps(said.json)


def test_labels_are_cut_with_a_mark_and_chinese_breaks_anywhere() -> None:
    font = pictures.font_for("a")
    lines = pictures.wrapped("one " * 60, font, 100)
    assert len(lines) == pictures.LINES
    assert lines[-1].endswith("…")
    assert all(font.getlength(line) <= 100 + font.getlength("…") for line in lines)
    assert "".join(pictures.wrapped("一个小的红色圆形在左上角", font, 60)) == "一个小的红色圆形在左上角"
