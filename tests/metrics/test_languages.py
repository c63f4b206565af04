"""Figures of captions language by language, and translation through the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sacrebleu

from ibllm.glossary import Glossary
from ibllm.languages import ByLanguage, Translation, extended, pairs_of
from ibllm_core.errors import UserError
from ibllm_core.interfaces.dataset import Dataset, Samples
from ibllm_core.model import build
from ibllm_core.model.evaluation import Evaluation
from ibllm_core.recipe import Recipe, load

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
#: (caption, language, image): two images have captions in both languages, one in English alone.
ITEMS = [("a red card", "en", 0), ("一张红色的卡", "zh", 0), ("a blue card", "en", 1), ("一张蓝色的卡", "zh", 1), ("a green card", "en", 2)]
NUMBERS = {"一张红色的卡": 0, "一张蓝色的卡": 1, "a red card": 0, "a blue card": 1, "a green card": 2}
WORDS = {"en": ["a red card", "a blue thing", "a green card"], "zh": ["一张红色的卡", "一张红色的卡", "card"]}


class Cards(Dataset):
    image_shape = (3, 8, 8)

    def __init__(self, grouped: bool = True) -> None:
        self.grouped = grouped

    def sizes(self) -> Mapping[str, int]:
        return {"train": 0, "test": len(ITEMS)}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        rows = [ITEMS[index] for index in indices.tolist()]
        return Samples(
            indices,
            images=np.stack([np.full((8, 8, 3), image, np.uint8) for _, _, image in rows]),
            captions=[text for text, _, _ in rows],
            languages=[code for _, code, _ in rows],
            groups=np.array([image for _, _, image in rows]) if self.grouped else None,
        )


class Talker:
    """Draws a caption as its number and writes of a number what `WORDS` says in the language asked for."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    def generate(self, captions: Sequence[str], **how: Any) -> npt.NDArray[np.uint8]:
        return np.stack([np.full((8, 8, 3), NUMBERS[text], np.uint8) for text in captions])

    def caption(self, images: npt.NDArray[np.uint8], languages: Sequence[str], **how: Any) -> list[str]:
        self.asked.append(languages)
        return [WORDS[code][int(image.flat[0])] for image, code in zip(images, languages, strict=True)]


def recipe(*sets: str) -> Recipe:
    away = ("metrics.scene", "metrics.caption_facts", "metrics.round_trip")
    given = ["model.text_decoder.languages=['en','zh']", "metrics.chrf={use='chrf'}", "stages.image.validate.figure='chrf'"]
    return load(TINY, [*(f"{name}=false" for name in away), *given, *sets])


def evaluation(grouped: bool = True) -> Any:
    model: Any = Talker()
    return Evaluation(model, Cards(grouped), "test", items=99)


def chrf(written: list[str], references: list[str]) -> float:
    return sacrebleu.corpus_chrf(written, [references]).score / 100


def test_figures_of_each_language_stand_beside_the_whole() -> None:
    given = recipe("evaluation.by_language=true")
    metrics = extended(given, build.build_metrics(given))
    assert isinstance(metrics["chrf"], ByLanguage)
    found = metrics["chrf"].evaluate(evaluation())
    english = chrf(WORDS["en"], ["a red card", "a blue card", "a green card"])
    chinese = chrf(["一张红色的卡", "一张红色的卡"], ["一张红色的卡", "一张蓝色的卡"])
    assert found == {
        "chrf": pytest.approx((3 * english + 2 * chinese) / 5),
        "chrf/en": pytest.approx(english),
        "chrf/zh": pytest.approx(chinese),
    }
    record = metrics["chrf"].record(evaluation())
    assert (record["n"], record["n en"], record["n zh"]) == (5, 3, 2)
    assert Glossary.of(given).figure("chrf/zh").label == "chrF, zh"


def test_a_caption_in_one_language_is_drawn_and_described_in_the_other() -> None:
    given = recipe()
    metrics = extended(given, build.build_metrics(given), ["en,zh"])
    found, looked = metrics["translation"], evaluation()
    figures = found.evaluate(looked)
    expected = chrf(["一张红色的卡", "一张红色的卡"], ["一张红色的卡", "一张蓝色的卡"])
    assert figures == {"chrf/en→zh": pytest.approx(expected), "script_right/en→zh": 1.0}, "of the two images that have references in zh"
    assert found.record(looked)["n en→zh"] == 2
    (panel,) = found.panels(looked)
    assert list(panel.rows) == [("a red card", "一张红色的卡"), ("a blue card", "一张红色的卡")]
    assert set(looked.model.asked[-1]) == {"zh"}


def test_without_references_only_what_the_data_know_is_judged() -> None:
    given = recipe()
    found = Translation(build.build_metrics(given), given, [("en", "zh")])
    looked = evaluation(grouped=False)
    assert found.evaluate(looked) == {"script_right/en→zh": pytest.approx(2 / 3)}, "the third item is written in Latin letters"
    assert found.record(looked)["n en→zh"] == 3
    assert Translation(build.build_metrics(given), given, [("de", "zh")]).evaluate(looked) == {}


@pytest.mark.parametrize(("said", "why"), [("en", "no pair"), ("en,en", "no pair"), ("zh,de", "cannot be asked to write in 'de'")])
def test_what_is_no_pair_is_refused(said: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        pairs_of(recipe(), [said])
    with pytest.raises(UserError, match="told no language"):
        pairs_of(load(TINY), ["en,zh"])
