"""Figures of the dataset `shapes`: scenes are read by `ibllm_shapes.reader`, captions by `ibllm_shapes.grammar`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ibllm.plugin import Metric
from ibllm_shapes.grammar import facts, objects_of, scene_facts
from ibllm_shapes.reader import Reading, read
from ibllm_shapes.scenes import Scenes

if TYPE_CHECKING:
    from ibllm.plugin import Evaluation

Bool = npt.NDArray[np.bool_]


def drawn_right(truth: Scenes, images: npt.NDArray[np.uint8]) -> tuple[Bool, npt.NDArray[np.int64]]:
    """Whether pictures show their scenes: (b) the whole scene, and (b) how many of its objects.

    A scene is right if the picture is clean and shows every object, no other, in its place; of counted objects, the number that its caption says. An
    object is right if it is clean itself and there with its size, colour, shape and cell, whatever the rest of the picture; a counted one with its
    size, colour and shape.
    """
    reading = read(images, truth.placement, truth.colours, truth.forms)
    whole, single = np.zeros(len(truth), dtype=bool), np.zeros(len(truth), dtype=np.int64)
    for i in range(len(truth)):
        wanted = scene_facts(truth, i)
        same_number = reading.scenes.count[i] == truth.count[i]
        whole[i] = reading.clean[i] and same_number and scene_facts(reading.scenes, i) == wanted
        single[i] = _right_objects(truth, reading, i)
    return whole, single


def _right_objects(truth: Scenes, reading: Reading, i: int) -> int:
    read, sound = reading.scenes, reading.sound[i]
    if truth.placement != "count":
        return len(objects_of(scene_facts(truth, i)) & objects_of(scene_facts(read, i, sound)))
    alike = (read.colour[i] == truth.colour[i, 0]) & (read.shape[i] == truth.shape[i, 0]) & (read.size[i] == truth.size[i, 0])
    return min(int((alike & sound).sum()), int(truth.count[i]))


def captioned_right(truth: Scenes, captions: Sequence[str]) -> Bool:
    """(b) whether captions state every fact of their scenes and invent none."""
    return np.array([facts(caption, truth.placement) == scene_facts(truth, i) for i, caption in enumerate(captions)], dtype=bool)


def caption_objects(truth: Scenes, captions: Sequence[str]) -> tuple[float, float]:
    """Precision and recall of the objects that captions state, a number of equal ones as one; a caption that is no sentence states none."""
    stated = [objects_of(facts(caption, truth.placement)) for caption in captions]
    wanted = [objects_of(scene_facts(truth, i)) for i in range(len(truth))]
    right = sum(len(a & b) for a, b in zip(stated, wanted, strict=True))
    return right / max(sum(map(len, stated)), 1), right / max(sum(map(len, wanted)), 1)


def same_facts(placement: str, captions: Sequence[str], others: Sequence[str]) -> Bool:
    """(b) whether pairs of captions are sentences that say the same."""
    pairs = [(facts(a, placement), facts(b, placement)) for a, b in zip(captions, others, strict=True)]
    return np.array([a is not None and a == b for a, b in pairs], dtype=bool)


def _truth(evaluation: Evaluation) -> Scenes:
    truth = evaluation.samples.truth
    if not isinstance(truth, Scenes):
        raise ValueError("the metrics scene, caption_facts and round_trip read the scenes of the dataset shapes: use it, or leave them out")
    return truth


def _drawn(evaluation: Evaluation) -> tuple[Bool, npt.NDArray[np.int64]]:
    """`drawn_right` of the generated images; three figures need it."""
    return evaluation.once("shapes.drawn", lambda: drawn_right(_truth(evaluation), evaluation.generated))


class SceneMetric(Metric):
    """Text → image, read by the dataset's own reader: ``scene_exact`` and ``object_exact``."""

    def __init__(self, config: Any, context: Any) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        whole, single = _drawn(evaluation)
        return {"scene_exact": float(whole.mean()), "object_exact": float(single.sum() / _truth(evaluation).count.sum())}

    def marks(self, evaluation: Evaluation) -> Mapping[str, Bool]:
        return {"scene": _drawn(evaluation)[0]}


class CaptionFactsMetric(Metric):
    """Image → text on real images: ``caption_exact``, and precision and recall of the objects stated."""

    def __init__(self, config: Any, context: Any) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        truth = _truth(evaluation)
        precision, recall = caption_objects(truth, evaluation.read)
        return {
            "caption_exact": float(captioned_right(truth, evaluation.read).mean()),
            "caption_object_precision": precision,
            "caption_object_recall": recall,
        }

    def marks(self, evaluation: Evaluation) -> Mapping[str, Bool]:
        return {"caption": captioned_right(_truth(evaluation), evaluation.read)}


class RoundTripMetric(Metric):
    """Text → image → text: ``roundtrip_exact`` where the reader and the captioner both find the caption's scene, ``self_agreement`` where the captioner does.

    The latter is not independent: the captioner's gradients may have trained the generator.
    """

    def __init__(self, config: Any, context: Any) -> None:
        pass

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        agrees = self.agrees(evaluation)
        return {"roundtrip_exact": float((_drawn(evaluation)[0] & agrees).mean()), "self_agreement": float(agrees.mean())}

    def agrees(self, evaluation: Evaluation) -> Bool:
        """(b) whether the captioner gives the caption's facts back."""
        return same_facts(_truth(evaluation).placement, evaluation.captions, evaluation.reread)

    def marks(self, evaluation: Evaluation) -> Mapping[str, Bool]:
        agrees = self.agrees(evaluation)
        return {"roundtrip": _drawn(evaluation)[0] & agrees, "self_agreement": agrees}
