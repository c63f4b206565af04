"""The dataset `shapes`: scenes drawn, described and asked about. Numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ibllm.plugin import Dataset, Samples, Stream
from ibllm_shapes import grammar
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.questions import ask
from ibllm_shapes.reader import read
from ibllm_shapes.render import render
from ibllm_shapes.scenes import Scenes, SceneSampler


class ShapesDataset(Dataset):
    """Scenes of shapes; each item is a pure function of (seed, split, index).

    The splits train, validation and test share their combinations, of colours and shapes unless the options say of what else; every scene of `novel`
    has one that none of them has, and every scene of `novel-validation` one of other such combinations. `Samples.truth` is a
    `ibllm_shapes.scenes.Scenes`.
    """

    licence = "mit"  # they are made by this package

    def __init__(self, config: ShapesConfig, context: Any) -> None:
        self.config = config
        self.image_shape = (3, config.size, config.size)
        self.sampler = SceneSampler(config, context.seed)

    def sizes(self) -> Mapping[str, int]:
        return {split: self.config.train_size if split == "train" else self.config.evaluation_size for split in self.config.splits()}

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        if split not in self.config.splits():
            raise KeyError(f"shapes has no split {split!r}: expected one of {', '.join(self.config.splits())}")
        config = self.config
        indices = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        scenes = self.sampler.by(config).scenes(split, indices)
        stream = Stream(self.sampler.key(split, "text"), indices)
        languages = [config.languages[k] for k in stream.integers(len(config.languages))]
        choice = stream.uniform()
        varied = config.templates == "varied"
        templates = [
            int(u * grammar.template_count(scenes.placement, code)) if varied else 0
            for u, code in zip(choice.tolist(), languages, strict=True)
        ]
        questions, answers = None, None
        if config.questions:
            draws = Stream(self.sampler.key(split, "question"), indices).uniform(7 if config.wordings == "varied" else 5)
            pairs, kinds = self.sampler.training + self.sampler.held_out_pairs(split), self.sampler.named_kinds(split)
            questions, answers = ask(scenes, languages, draws, pairs, kinds)
        return Samples(
            indices=indices,
            images=render(scenes),
            captions=grammar.write(scenes, languages, templates),
            languages=languages,
            questions=questions,
            answers=answers,
            truth=scenes,
        )

    def describe(self, images: npt.NDArray[np.uint8]) -> Sequence[str | None]:
        """b canonical captions of what the dataset's own reader sees in images (b h w 3); None of a picture that is no scene."""
        reading = read(images, self.config.placement, self.config.colours, self.config.forms)
        language = self.config.languages[0]
        sound = reading.clean & (reading.scenes.count > 0)
        if self.config.placement == "count":  # what its captions can say: objects that are all alike
            scenes = reading.scenes
            alike = [scenes.colour, scenes.shape]
            sound &= np.logical_and.reduce([((one == one[:, :1]) | ~scenes.present).all(1) for one in alike])
        said = iter(grammar.write(_rows(reading.scenes, sound), [language] * int(sound.sum()), [0] * int(sound.sum())))
        return [next(said) if one else None for one in sound.tolist()]

    def corpus(self, split: str = "train", limit: int | None = None) -> Sequence[str]:
        """The texts of the split's first 4,096 scenes, or `limit`: the grammar has few words, and scenes are drawn without end."""
        return super().corpus(split, 4096 if limit is None else limit)


def _rows(scenes: Scenes, chosen: npt.NDArray[np.bool_]) -> Scenes:
    """Some of the scenes."""
    columns = ("count", "colour", "shape", "size", "cell", "x", "y")
    return attrs.evolve(scenes, **{name: getattr(scenes, name)[chosen] for name in columns})
