"""Figures of questions and answers of the dataset `shapes`, judged by `ibllm_shapes.judge`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Metric, Panel, derive_key
from ibllm_shapes.judge import Question, answered_right, parse, right_answers
from ibllm_shapes.questions import KINDS
from ibllm_shapes.scenes import Scenes

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Bool = npt.NDArray[np.bool_]
#: What is asked where a question is none of the dataset's, and how many questions a panel shows.
NO_KIND, SHOWN = "no question", 12


def _scenes(evaluation: Evaluation) -> Scenes:
    truth = evaluation.samples.truth
    if not isinstance(truth, Scenes):
        raise ValueError("the metrics vqa and vqg ask about the scenes of the dataset shapes: use it, or leave them out")
    return truth


def _given(evaluation: Evaluation) -> Sequence[str]:
    """The dataset's own questions."""
    assert evaluation.samples.questions is not None, "checked with the recipe: the metrics need data.questions"
    return evaluation.samples.questions


def kinds(questions: Sequence[str], placement: str) -> list[str]:
    """What each question asks; `NO_KIND` for one that the dataset does not ask."""
    return [NO_KIND if read is None else read.kind for read in (parse(question, placement) for question in questions)]


def total_variation(some: Sequence[str], others: Sequence[str]) -> float:
    """Half the summed differences of the shares that each word has in two lists: 0 for equal shares, 1 for no word in common."""
    one, other = Counter(some), Counter(others)
    return sum(abs(one[word] / len(some) - other[word] / len(others)) for word in {*one, *other}) / 2


@attrs.frozen(eq=False)
class Answered:
    """The dataset's questions, answered.

    Attributes:
        read: what each question means.
        right: (b) answers that are right.
        blind: (b) right answers to the same questions where the image is another item's.
        prior: (b) right answers where each is the one that is right most often for a question of its kind and language.
    """

    read: Sequence[Question]
    right: Bool
    blind: Bool
    prior: Bool


def _answered(evaluation: Evaluation) -> Answered:
    scenes, questions = _scenes(evaluation), _given(evaluation)

    def written(images: npt.NDArray[np.uint8]) -> Bool:
        return answered_right(scenes, questions, evaluation.model.answer(images, questions, batch=evaluation.batch))

    def compute() -> Answered:
        read = [found for found in (parse(question, scenes.placement) for question in questions) if found is not None]
        assert len(read) == len(questions), "the dataset asks what its judge does not read"
        right = right_answers(scenes, questions)
        common: dict[tuple[str, str], Counter[str]] = {}
        for question, some in zip(read, right, strict=True):
            common.setdefault((question.kind, question.language), Counter()).update(some)
        guesses = [_commonest(common[question.kind, question.language]) for question in read]
        prior = np.array([guess in some for guess, some in zip(guesses, right, strict=True)], dtype=bool)
        return Answered(read, written(evaluation.real), written(evaluation.real[_others(evaluation)]), prior)

    return evaluation.once("shapes.answered", compute)


def _commonest(counts: Counter[str]) -> str:
    """The word that was counted most often; of several the last in the alphabet."""
    return max(counts, key=lambda word: (counts[word], word))


def _others(evaluation: Evaluation) -> npt.NDArray[np.int64]:
    """(b) for each item the place of another one: the one before it in the split, whatever the order here."""
    order = np.argsort(evaluation.indices)
    found = np.empty_like(order)
    found[order] = np.roll(order, 1)
    return found


class AnswersMetric(Metric):
    """Right answers to the dataset's questions, of every kind; and how many a model gives that is shown another image."""

    def __init__(self, config: Any, context: Any) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        found = _answered(evaluation)
        of_kind = {kind: [i for i, read in enumerate(found.read) if read.kind == kind] for kind in KINDS}
        return {
            "answer_exact": float(found.right.mean()),
            "answer_blind": float(found.blind.mean()),
            "answer_prior": float(found.prior.mean()),
            **{f"answer_exact/{kind}": float(found.right[rows].mean()) for kind, rows in of_kind.items() if rows},
        }

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        found, scenes = _answered(evaluation), _scenes(evaluation)
        groups: dict[str, list[int]] = {"all": [*range(len(scenes))]}
        for name in ("kind", "language"):
            for i, read in enumerate(found.read):
                groups.setdefault(getattr(read, name), []).append(i)
        rows: list[tuple[str | int, ...]] = [
            (name, len(some), *(_percent(values[some]) for values in (found.right, found.blind, found.prior)))
            for name, some in groups.items()
        ]
        yield Panel(
            title="Answers by what is asked",
            text="Beside the right answers stand two that do not see the image: the model's own where each question is shown another item's image, and for "
            "each kind and language the one answer that is right most often.",
            header=("questions about", "how many", "right", "right with another image", "commonest answer"),
            rows=rows,
        )


@attrs.frozen(eq=False)
class Asked:
    """Questions that the model asks about real images, one each.

    Attributes:
        questions, answers: b strings each, both the model's.
        kinds: what each asks, as `kinds` gives it.
        sound: (b) the scene answers it.
        right: (b) and the model's own answer is right.
    """

    questions: Sequence[str]
    answers: Sequence[str]
    kinds: Sequence[str]
    sound: Bool
    right: Bool


def _asked(evaluation: Evaluation) -> Asked:
    def compute() -> Asked:
        scenes, model = _scenes(evaluation), evaluation.model
        seed = derive_key(evaluation.seed, evaluation.split)
        questions = model.ask(evaluation.real, seed=seed, numbers=evaluation.indices, batch=evaluation.batch)
        answers = model.answer(evaluation.real, questions, batch=evaluation.batch)
        sound = np.array([bool(some) for some in right_answers(scenes, questions)], dtype=bool)
        return Asked(questions, answers, kinds(questions, scenes.placement), sound, answered_right(scenes, questions, answers))

    return evaluation.once("shapes.asked", compute)


class QuestionsMetric(Metric):
    """Whether the questions that the model asks make sense, whether it answers them itself, and whether they are as varied as the data's."""

    def __init__(self, config: Any, context: Any) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        found, given = _asked(evaluation), _given(evaluation)
        return {
            "question_sound": float(found.sound.mean()),
            "question_answered": float(found.right.mean()),
            "question_kinds": total_variation(found.kinds, kinds(given, _scenes(evaluation).placement)),
            "question_variety": len(set(found.questions)) / len(set(given)),
        }

    def record(self, evaluation: Evaluation) -> Mapping[str, str | int | float]:
        given = kinds(_given(evaluation), _scenes(evaluation).placement)
        half = len(given) // 2
        return {
            **super().record(evaluation),
            "temperature": 1.0,
            "top_p": 0.9,
            "kinds, one half of the data's from the other": total_variation(given[:half], given[half:]),
        }

    def panels(self, evaluation: Evaluation) -> Iterable[Panel]:
        found, data = _asked(evaluation), Counter(kinds(_given(evaluation), _scenes(evaluation).placement))
        rows = []
        for kind in (*KINDS, *([NO_KIND] if NO_KIND in found.kinds else [])):
            own = [i for i, other in enumerate(found.kinds) if other == kind]
            shares = f"{100 * len(own) / len(evaluation):.1f} %", f"{100 * data[kind] / len(evaluation):.1f} %"
            rows.append((kind, *shares, *(_percent(values[own]) if own else "–" for values in (found.sound, found.right))))
        yield Panel(
            title="Questions asked",
            text="What the model asks about real images, one question each, drawn at temperature 1, beside what the dataset asks about the same images. A "
            "question is sound if the dataset's grammar reads it and the scene answers it.",
            header=("about", "asked", "asked in the data", "sound", "answered right by the model"),
            rows=rows,
        )
        first = list(zip(evaluation.captions, found.questions, found.answers, found.sound, found.right, strict=True))[:SHOWN]
        yield Panel(
            title="The first questions asked",
            place="samples",
            header=("image", "question", "answer", ""),
            rows=[(*texts, "right" if right else "wrong" if sound else "no answer") for *texts, sound, right in first],
        )


def _percent(right: Bool) -> str:
    return f"{100 * right.mean():.1f} %"
