"""The dataset `emoji_styles` on a fixture of twelve concepts: what it reads, how it names, and that nothing held out leaks."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("resvg_py")

from ibllm_emoji.config import EmojiStylesConfig
from ibllm_emoji.styles import archives as npm
from ibllm_emoji.styles import render as rendering
from ibllm_emoji.styles.archives import COMMAND, PACKAGES, VERSIONS, find
from ibllm_emoji.styles.concepts import Concept, plain
from ibllm_emoji.styles.dataset import STYLES, EmojiStylesDataset
from ibllm_emoji.styles.render import looks, render
from ibllm_emoji.styles.splits import divide, hold_out
from ibllm_emoji.styles.wording import LANGUAGES, TEMPLATES, cleaned, read, words, write

from ibllm_core.errors import Notice, UserError
from ibllm_core.interfaces.randomness import derive_key

FOLDER = Path(__file__).parent / "archives"
SIX = ("en", "zh", "de", "hi", "ja", "th")


def config(**options: Any) -> EmojiStylesConfig:
    return EmojiStylesConfig(**{"path": str(FOLDER), **options})


@pytest.fixture(scope="module")
def data() -> EmojiStylesDataset:
    return EmojiStylesDataset(config(languages=SIX), None)


def key(*what: int | str) -> int:
    return derive_key("test", *what)


def invented(count: int, languages: tuple[str, ...]) -> list[Concept]:
    """Things named by a colour, a size and a form each, so that words recur."""
    names = [f"{('red', 'green', 'blue', 'black')[n % 4]} form{n // 4 % 10} size{n // 40}" for n in range(count)]
    return [Concept(f"{n:x}", {code: f"{name} {code}" for code in languages}, {}) for n, name in enumerate(names)]


def test_twelve_things_are_drawn_by_all_four(data: EmojiStylesDataset) -> None:
    gallery = data.gallery
    assert gallery.images.shape == (4, 12, 32, 32, 3) and gallery.images.dtype == np.uint8
    assert sum(data.sizes().values()) + sum(gallery.left_out.values()) == 12 * 4 * 6, (
        "every drawing is named in every language, in one split"
    )
    assert [concept.names["en"] for concept in gallery.concepts][:3] == ["red heart", "green heart", "blue heart"]
    assert all(set(concept.names) == set(SIX) for concept in gallery.concepts)
    assert set(gallery.artists) == set(STYLES)


def test_drawings_are_on_white_and_show_what_they_are_called(data: EmojiStylesDataset) -> None:
    names = [concept.names["en"] for concept in data.gallery.concepts]
    for style, images in zip(STYLES, data.gallery.images, strict=True):
        assert (images[:, 0, 0] == 255).all() or style == "twemoji", "corners are white"
        for name, channel in (("red heart", 0), ("green heart", 1), ("blue heart", 2)):
            middle = images[names.index(name), 12:18, 13:19].astype(int)
            others = [middle[..., other].mean() for other in range(3) if other != channel]
            assert middle[..., channel].mean() > max(others), (style, name)


def test_a_drawing_that_is_not_square_is_in_the_middle() -> None:
    wide = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -8 32 32"><path fill="#000" d="M0 0h32v16H0z"/></svg>'
    image = render(wide, 32)
    assert (image[:8] == 255).all() and (image[8:24] == 0).all() and (image[24:] == 255).all()


def test_items_are_pure_and_captions_name_thing_and_style(data: EmojiStylesDataset) -> None:
    whole = data.samples("train", np.arange(data.sizes()["train"]))
    some = EmojiStylesDataset(config(languages=SIX), None).samples("train", np.array([50, 3, 50]))
    for place, index in enumerate((50, 3, 50)):
        assert (some.images[place] == whole.images[index]).all() and some.captions[place] == whole.captions[index]
    for number, style, caption, code in zip(
        whole.truth.concepts.tolist(), whole.truth.styles.tolist(), whole.captions, whole.languages, strict=True
    ):
        said = read(caption, code)
        assert said is not None
        assert (said.name, said.style) == (data.gallery.concepts[number].names[code], STYLES[style])
    assert set(whole.languages[:12]) == set(SIX), "languages take turns"
    with pytest.raises(KeyError, match="expected one of train, crossing"):
        data.samples("test", np.array([0]))


def test_items_of_one_drawing_are_of_one_group(data: EmojiStylesDataset) -> None:
    whole = data.samples("train", np.arange(data.sizes()["train"]))
    pictures = [image.tobytes() for image in whole.images]
    assert len(set(zip(pictures, whole.groups.tolist(), strict=True))) == len(set(whole.groups.tolist()))


@pytest.mark.parametrize("languages", [("en",), ("en", "de", "zh")])
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_held_out_leaks(languages: tuple[str, ...], seed: int) -> None:
    options = config(languages=languages, concept=0.2, concept_validation=0.1)
    things, alike = invented(400, languages), np.tile(np.arange(400), (4, 1))

    def keyed(*what: int | str) -> int:
        return key(seed, *what)

    items, left_out = divide(things, hold_out(things, alike, options, keyed), options, keyed)
    assert not left_out
    assert set(items) == set(options.splits())
    assert all(items[split] for split in items), "no split is empty"
    every = [item for split in items.values() for item in split]
    assert len(every) == len(set(every)) <= 400 * 4 * len(languages)
    cells = {split: {(n, s) for n, s, _ in some} for split, some in items.items()}
    named = {split: {(n, code) for n, _, code in some} for split, some in items.items()}
    trained = {n for n, _, _ in items["train"]}
    for twin in ("", "-validation"):
        crossing = cells[f"crossing{twin}"]
        assert not crossing & cells["train"], "the pair of thing and style was never seen"
        assert {n for n, _ in crossing} <= trained
        assert all({(n, s) for s in range(4)} - {(n, out)} <= cells["train"] for n, out in crossing), "the three others were"
        concept = {n for n, _ in cells[f"concept{twin}"]}
        assert not concept & trained, "the thing was never seen"
        words_trained = {(code, word) for n, _, code in items["train"] for word in words(things[n].names[code])}
        assert all((code, word) in words_trained for n in concept for code in languages for word in words(things[n].names[code]))
        if len(languages) > 1:
            tongue = named[f"language{twin}"]
            assert not tongue & named["train"], "the thing was never named in that language"
            assert {n for n, _ in tongue} <= trained and {(n, s) for n, s in cells[f"language{twin}"]} <= cells["train"]
    for kind in ("crossing", "concept", "language") if len(languages) > 1 else ("crossing", "concept"):
        assert not {n for n, _ in cells[kind]} & {n for n, _ in cells[f"{kind}-validation"]}, "twins are of other things"


def test_shares_are_what_the_options_say_and_more_concepts_move_none() -> None:
    options = config(languages=("en", "de"))
    things = invented(1600, options.languages)
    alike = np.tile(np.arange(1600), (4, 1))
    held = hold_out(things, alike, options, key)
    lots = [split for _, split in held.styles.values()] + [split for _, split in held.languages.values()]
    left = 1600 - len(held.concepts)
    for split, share in (("crossing", 0.2), ("crossing-validation", 0.1), ("language", 0.1), ("language-validation", 0.05)):
        assert lots.count(split) / left == pytest.approx(share, abs=0.03)
    assert list(held.concepts.values()).count("concept") == pytest.approx(160, abs=10)
    fewer = hold_out(things[:1200], alike[:, :1200], options, key)
    kept = [n for n in range(1200) if n not in held.concepts and n not in fewer.concepts]
    assert [held.styles.get(n) for n in kept] == [fewer.styles.get(n) for n in kept]


def test_a_drawing_that_looks_like_another_things_is_not_held_out() -> None:
    options = config(crossing=0.5, crossing_validation=0.5, language=0, language_validation=0)
    things, alike = invented(80, ("en",)), np.tile(np.arange(80), (4, 1))
    alike[3, 1::2] = alike[3, ::2]
    held = hold_out(things, alike, options, key)
    assert held.styles and all(style != 3 for style, _ in held.styles.values())
    assert not held.concepts, "all of a concept's drawings would have to be its own"


def test_drawings_that_look_the_same_are_found(data: EmojiStylesDataset) -> None:
    images = data.gallery.images[0].copy()
    images[5], images[7] = images[2], np.clip(images[2].astype(int) + 1, 0, 255).astype(np.uint8)
    first = looks([images])[0].tolist()
    assert first == [0, 1, 2, 3, 4, 2, 6, 2, 8, 9, 10, 11]


def test_a_language_alone_has_no_split_of_languages() -> None:
    assert not [split for split in config().splits() if split.startswith("language")]
    assert config().reported_splits() == ("crossing", "concept")
    assert config(languages=("en", "de")).reported_splits() == ("crossing", "concept", "language")


def test_every_language_has_a_template_that_can_be_read_back() -> None:
    assert len(LANGUAGES) == 28
    for code, template in TEMPLATES.items():
        for style in STYLES:
            said = read(write("x (y), z: w", style, code), code)
            assert said is not None and (said.name, said.style) == ("x (y), z: w", style), template
    assert read("red apple, as Noto draws it", "de") is None
    assert read("red apple, as Nato draws it", "en") is None
    assert write("红苹果", "noto", "zh") == "Noto 风格的红苹果"
    assert write("red apple", "openmoji", "en") == "red apple, as OpenMoji draws it"


def test_names_are_tidied() -> None:
    assert cleaned("लाल सेब, सेवफल, लाल, फल", "hi") == "लाल सेब"
    assert cleaned("woman , girl  astronaut", "bn") == "woman, girl astronaut"
    assert words("红苹果 OK") == ["红", "苹", "果", "OK"]
    assert plain("2764-FE0F") == "2764"


def test_what_is_rendered_is_kept_and_read_again(data: EmojiStylesDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "cache"))
    found, things = find(FOLDER), data.gallery.concepts[:2]
    calls: list[int] = []

    def counted(svg: str, size: int) -> Any:
        calls.append(size)
        return np.full((size, size, 3), len(calls), dtype=np.uint8)

    monkeypatch.setattr(rendering, "render", counted)
    first = rendering.all_drawings(found, things, 16)
    again = rendering.all_drawings(found, things, 16)
    assert len(calls) == 8 and (first == again).all() and not again.flags.writeable
    rendering.all_drawings(found, things, 24)
    assert len(calls) == 16, "another size is rendered"
    files = sorted((tmp_path / "cache" / "emoji_styles").iterdir())
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:200])
    rendering.all_drawings(found, things, 16)
    assert len(calls) == 24, "a damaged file is made again"


def test_a_cache_that_cannot_be_written_is_told(data: EmojiStylesDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("IBLLM_CACHE", str(tmp_path / "file" / "below"))
    things = data.gallery.concepts[:1]
    with pytest.warns(Notice, match="drawings cannot be kept in .* IBLLM_CACHE names another place"):
        images = rendering.all_drawings(find(FOLDER), things, 16)
    assert images.shape == (4, 1, 16, 16, 3)


def test_what_is_wrong_with_the_folder_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(COMMAND)):
        find(tmp_path / "nowhere")
    folder = Path(shutil.copytree(FOLDER, tmp_path / "some"))
    (folder / "iconify-json-noto-1.2.9.tgz").unlink()
    with pytest.raises(UserError, match=r"no archive of @iconify-json/noto; in that folder: npm pack"):
        find(folder)
    shutil.copy(FOLDER / "iconify-json-noto-1.2.9.tgz", folder / "iconify-json-noto-1.2.8.tgz")
    shutil.copy(FOLDER / "iconify-json-noto-1.2.9.tgz", folder / "iconify-json-noto-1.2.9.tgz")
    shutil.copy(FOLDER / "iconify-json-noto-1.2.9.tgz", folder / "iconify-json-noto-emoji-1.0.0.tgz")
    with pytest.raises(UserError, match="expected one archive of @iconify-json/noto"):
        find(folder)


def test_a_damaged_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "some"))
    archive = folder / "iconify-json-twemoji-1.2.5.tgz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"twemoji-1\.2\.5\.tgz cannot be read .* fetch it again"):
        EmojiStylesDataset(config(path=str(folder)), None)
    archive.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"twemoji-1\.2\.5\.tgz cannot be read"):
        EmojiStylesDataset(config(path=str(folder)), None)
    archive.write_bytes(whole)
    monkeypatch.setattr(npm, "LARGEST", 100)
    with pytest.raises(UserError, match="expected at most 100"):
        find(folder)["@iconify-json/twemoji"].read(("icons.json",))


def test_nothing_outside_the_package_is_read(tmp_path: Path) -> None:
    path = tmp_path / "iconify-json-noto-9.tgz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("package/chars.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name in ("../package/info.json", "/package/info.json"):
            entry = tarfile.TarInfo(name)
            entry.size = 2
            archive.addfile(entry, io.BytesIO(b"{}"))
    assert npm.Archive("@iconify-json/noto", path).read(("chars.json", "info.json")) == {}


def test_the_credit_names_each_artist_with_licence_and_version(data: EmojiStylesDataset) -> None:
    credit = data.attribution()
    for part in (
        "Google Inc",
        "Apache 2.0",
        "Twitter",
        "CC BY 4.0",
        "Microsoft Corporation",
        "MIT",
        "OpenMoji",
        "CC BY-SA 4.0",
        "CLDR",
        "32×32",
    ):
        assert part in credit
    for package in PACKAGES.values():
        assert f"{package} {VERSIONS[package]}" in credit


def test_what_is_left_out_is_told(data: EmojiStylesDataset) -> None:
    assert data.gallery.left_out
    for split, count in data.gallery.left_out.items():
        assert any(f"{count} items are left out of {split}" in note for note in data.notes())


def test_other_versions_are_told(data: EmojiStylesDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import attrs

    artists = {**data.gallery.artists, "noto": attrs.evolve(data.gallery.artists["noto"], version="2.0.0")}
    other = EmojiStylesDataset(config(languages=SIX), None)
    other.gallery = attrs.evolve(data.gallery, artists=artists)
    assert "@iconify-json/noto 2.0.0 (measured with 1.2.9)" in other.notes()[-1]


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(UserError, match=r'pip install "ibllm\[emoji\]"'):
        render("<svg/>", 16)


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="different languages"):
        config(languages=("en", "en"))
    with pytest.raises(ValueError, match="at most 1"):
        config(crossing=0.8, crossing_validation=0.3)


def test_the_dataset_needs_no_torch() -> None:
    code = "import sys, ibllm_emoji.styles.dataset, ibllm_emoji.styles.metric, ibllm_emoji.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_share_of_the_training_items_changes_nothing_else(data: EmojiStylesDataset):
    part = EmojiStylesDataset(config(languages=SIX, train_share=0.1), None)
    assert part.sizes() == {**data.sizes(), "train": -(-data.sizes()["train"] // 10)}
    assert part.samples("train", np.arange(3)).captions == data.samples("train", np.arange(3)).captions
    assert part.gallery is data.gallery
