"""The options of attacks and of the losses that are trained with them. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from ibllm.plugin import Config, DatasetConfig, LossConfig, NestedData, OptionError, nested_data, option, weighs
from ibllm_robust.attacked import CLEAN, attacked_items

#: What may be perturbed.
OF = ("image", "text")
#: What may be attacked → what of a batch and a model is needed for it, where images and where texts are perturbed.
AGAINST = {
    "captioning": {"image": {"image_encoder", "text_decoder", "data.pairs"}},
    "answers": {"image": {"image_encoder", "text_decoder", "data.questions"}},
    "drawing": {"text": {"text_encoder", "image_decoder", "data.pairs"}},
    "agreement": {of: {"text_encoder", "image_encoder", "data.pairs"} for of in OF},
    "cycle": {of: {"text_encoder", "image_decoder", "image_encoder", "text_decoder", "data.captions"} for of in OF},
    "latent": {"image": {"image_encoder", "data.images"}, "text": {"text_encoder", "data.captions"}},
}


_MEANS = "what a changed text is held against: same, what it was before; own, itself, a new sentence, which the cycle alone can judge"


def _norm(*norms: str) -> Any:
    return option(
        "linf", help="how far is measured: linf, by the largest change of a number; l2, by the length of all changes", choices=norms
    )


def _steps(default: int) -> Any:
    return option(default, help="passes forward and back that follow the gradient", ge=1)


@attrs.frozen(kw_only=True)
class AttackConfig(Config):
    """The base of all attacks' options. The first ones say how strong it is; the others, where a stage perturbs its batches, what it perturbs."""

    epsilon: float = weighs(
        option(
            8 / 255,
            help="ε, the radius of the ball: of images as a part of their range, of texts in root mean squares of each word's embedding",
            ge=0,
            live="training",
        )
    )
    of: str = option("image", help="what a stage perturbs: images, or the embeddings of the words that the text encoder reads", choices=OF)
    against: str = option(
        "captioning",
        help="what a stage's attack makes worse: the caption of an image, answers, the drawing of a caption, the agreement of text and image, the cycle "
        "(a drawing read as something else), or the latent, which it moves away",
        choices=tuple(AGAINST),
    )
    space: str = option("", help='the loss whose common space `against = "agreement"` is measured in, one of the stage\'s')
    share: float = option(1.0, help="of a stage's batch, the part that is perturbed, at the same places of every batch", ge=0, le=1)
    replace: bool = option(
        True,
        help="all losses of the stage see the perturbed in the place of the clean; false: they see the clean, and those that ask for both (robust_consistency) "
        "have both",
    )

    def __attrs_post_init__(self) -> None:
        if self.of not in AGAINST[self.against]:
            others = ", ".join(name for name, of in AGAINST.items() if self.of in of)
            raise ValueError(f'against = "{self.against}" is no attack on of = "{self.of}": expected {others}')
        if self.against == "agreement" and not self.space:
            raise ValueError(
                'against = "agreement" is measured in a common space: expected space = "NAME", a loss of the stage that learns one'
            )

    def needs(self) -> frozenset[str]:
        return frozenset(AGAINST[self.against][self.of])


@attrs.frozen(kw_only=True)
class NoiseConfig(AttackConfig):
    """Uniform noise in the ball, which knows nothing of the model: what every attack is compared with."""

    norm: str = _norm("linf", "l2")


@attrs.frozen(kw_only=True)
class FGSMConfig(AttackConfig):
    """Goodfellow et al. 2015: one step along the gradient, to the edge of the ball."""

    norm: str = _norm("linf", "l2")


@attrs.frozen(kw_only=True)
class PGDConfig(AttackConfig):
    """Madry et al. 2018. The worst of all that it meets is kept."""

    norm: str = _norm("linf", "l2")
    steps: int = _steps(10)
    step_size: float = option(0.0, help="length of a step as a part of ε; 0 for 2.5 / steps, which reaches the edge from anywhere", ge=0)
    restarts: int = option(1, help="times that it begins anew, at another place", ge=1)
    random_start: bool = option(True, help="begin anywhere in the ball; false: the first time where nothing is changed")


@attrs.frozen(kw_only=True)
class APGDConfig(AttackConfig):
    """Croce and Hein 2020: no step size to choose, for steps are halved where they lead nowhere."""

    norm: str = _norm("linf", "l2")
    steps: int = _steps(20)
    restarts: int = option(1, help="times that it begins anew, at another place", ge=1)
    rho: float = option(
        0.75, help="ρ, the part of the steps between two looks that has to make things worse, or steps are halved", gt=0, lt=1
    )


@attrs.frozen(kw_only=True)
class SquareConfig(AttackConfig):
    """Andriushchenko et al. 2020: squares of ±ε at random places, kept where they make things worse. It asks for no gradient."""

    norm: str = _norm("linf")
    queries: int = option(200, help="passes forward", ge=1)
    first: float = option(0.8, help="p, the part of the image that the first squares cover; it falls with the queries", gt=0, le=1)


@attrs.frozen(kw_only=True)
class UniversalConfig(AttackConfig):
    """Shafahi et al. 2020: one δ for all items of a set, by steps along the sum of their gradients. A stage cannot use it, for its batches come in shares."""

    norm: str = _norm("linf", "l2")
    steps: int = _steps(30)
    step_size: float = option(0.0, help="length of a step as a part of ε; 0 for 2.5 / steps", ge=0)


@attrs.frozen(kw_only=True)
class AttacksConfig(DatasetConfig):
    """Items that ``ibllm attack RUN --split train --save FOLDER`` left, among the training items of other data; all other splits are those of the data."""

    path: str = option("", help="the folder; relative to the recipe that names it. Without it there is nothing to train on", path="folder")
    of: Mapping[str, Any] = option(
        factory=lambda: {"use": "shapes"},
        help="the data, a table as [data] is one, those of the run that was attacked; paths in it are relative to the working directory",
    )
    share: float = option(0.5, help="of the training items, those that are attacked ones, each again and again", gt=0, le=1)

    def __attrs_post_init__(self) -> None:
        assert self.data.use  # what is wrong with the table is told where the recipe is read

    def __hash__(self) -> int:
        return hash((self.path, repr(self.of), self.share))

    @property
    def data(self) -> NestedData:
        """The data."""
        return nested_data("of", self.of)

    def check(self) -> Iterable[OptionError]:
        try:
            attacked_items(self.path)
        except OptionError as error:
            yield error
        yield from self.data.config.check()

    def provides(self) -> frozenset[str]:
        return self.data.config.provides()

    def splits(self) -> Mapping[str, str]:
        return {**self.data.config.splits(), CLEAN: "the training items without any attack, to be attacked anew"}

    def validation_split(self) -> str:
        return self.data.config.validation_split()

    def reported_splits(self) -> tuple[str, ...]:
        return self.data.config.reported_splits()

    def primary_split(self) -> str:
        return self.data.config.primary_split()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.data.config.image_shape

    def fitting(self) -> tuple[str, tuple[int, int, int]]:
        return self.data.config.fitting()

    def contents(self) -> Sequence[tuple[str, str]]:
        """What the folder holds, and the data where they lie in files (`ibllm.data_prints`)."""
        of_data: Any = getattr(self.data.config, "contents", None)
        return [*attacked_items(self.path).contents(), *(of_data() if of_data is not None else ())]


@attrs.frozen(kw_only=True)
class TextAttackConfig(Config):
    """The base of the attacks' options that change texts. They ask the model for no gradient: of many changes the worst is kept."""

    changes: int = option(1, help="changes of a text, at most", ge=0)
    candidates: int = option(16, help="changes that are tried before one is made, drawn of all that there are", ge=1)
    against: str = option(
        "cycle",
        help="what it makes worse: the cycle (its drawing is read as something else), the drawing (log p of the image), the agreement of text and image",
        choices=("cycle", "drawing", "agreement"),
    )
    space: str = option("", help='the loss whose common space `against = "agreement"` is measured in')
    share: float = option(
        1.0, help="of a stage's batch, the part whose captions are changed, at the same places of every batch", ge=0, le=1
    )
    means: str = option("same", help=_MEANS, choices=("same", "own"))

    def __attrs_post_init__(self) -> None:
        if self.against == "agreement" and not self.space:
            raise ValueError('against = "agreement" is measured in a common space: expected space = "NAME", a loss that learns one')
        if self.means == "own" and self.against != "cycle":
            raise ValueError(f'means = "own" with against = "{self.against}": expected "same", or against = "cycle"')

    def needs(self) -> frozenset[str]:
        return frozenset(AGAINST[self.against]["text"] | {"text_encoder"})


@attrs.frozen(kw_only=True)
class TyposConfig(TextAttackConfig):
    """Slips of a finger: letters swapped, left out, doubled, or taken from the key beside."""


@attrs.frozen(kw_only=True)
class WordsConfig(TextAttackConfig):
    """Words in the places of others, as the data's grammar allows it. In a stage the options say which; ``ibllm attack`` learns them from the data."""

    classes: tuple[tuple[str, ...], ...] = option(
        (),
        help='words that may stand for each other: [["red", "green"], ["circle", "square"]]; empty: those seen between the same two words',
    )
    means: str = option("own", help=_MEANS, choices=("same", "own"))


@attrs.frozen(kw_only=True)
class NeighboursConfig(TextAttackConfig):
    """Alzantot et al. 2018: tokens in the places of those that are nearest in the text encoder's embedding."""

    neighbours: int = option(8, help="of a token, how many nearest ones may take its place", ge=1)
    means: str = option("own", help=_MEANS, choices=("same", "own"))


@attrs.frozen(kw_only=True)
class RobustConsistencyConfig(LossConfig):
    """Clean and perturbed images have one latent (Schlarmann et al. 2024, FARE), or one distribution over captions (Zhang et al. 2019, TRADES)."""

    of: str = option(
        "latent",
        help="what has to agree: latent (FARE: the squared distance of latents), captions (TRADES: the divergence of the next word's distributions)",
        choices=("latent", "captions"),
    )
    teacher: str = option(
        "",
        help="the frozen image encoder, one of [model.extra.NAME], that gives the clean images' latents; empty for the model's own",
        part="image_encoder",
    )
    stop: bool = option(
        True, help="no gradient through what the clean images give, so that they do not move towards the perturbed; latent only"
    )

    def needs(self) -> frozenset[str]:
        captions = {"text_decoder", "data.pairs"} if self.of == "captions" else set()
        return frozenset({"image_encoder", "data.images", *captions})
