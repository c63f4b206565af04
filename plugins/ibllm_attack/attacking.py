"""Attacks on items of a split: perturbations of the kind ``perturbation``, whoever brings them, and trained agents.

Shapes: b items, h w c image, c h w the same as the model reads it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs
import numpy as np
import numpy.typing as npt

from ibllm_core.errors import UserError, nearest
from ibllm_core.host.manager import manager
from ibllm_core.interfaces.batch import collate, take, to_pixels
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Samples
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.randomness import derive_key
from ibllm_core.model.cycle import Cycle
from ibllm_core.recipe.words import keys, structure

from .strengths import KNOBS, Strength

if TYPE_CHECKING:
    from ibllm.trained import Trained
    from ibllm_core.model.model import Model

Pixels = npt.NDArray[np.uint8]
#: Items that are attacked at once.
BATCH = 32
#: Texts of the training data that a grammar is learned from.
TEXTS = 4096


@runtime_checkable
class RewritesTexts(Protocol):
    """A perturbation that changes captions as texts."""

    def rewritten(self, cycle: Cycle, texts: Sequence[str]) -> list[str]:
        """The captions of a cycle's batch, `texts` (b), as the attack leaves them."""


@runtime_checkable
class LearnsWords(Protocol):
    """A perturbation that has to see texts of the data before it can attack."""

    def learn(self, texts: Sequence[str], fits: Callable[[str], bool]) -> None:
        """Learns from texts; `fits` says whether a text is a sentence of the data."""


@attrs.frozen(eq=False)
class Attacked:
    """Some items under attack.

    Attributes:
        images: (b h w c) perturbed images, where images are perturbed.
        texts: b captions as they were left, where texts are perturbed.
        drawn: (b h w c) what is drawn of perturbed captions.
    """

    images: Pixels | None = None
    texts: list[str] | None = None
    drawn: Pixels | None = None


@attrs.define(eq=False)
class Attack:
    """One attack on a model: what is perturbed, by what, against what.

    Attributes:
        of: ``image``, ``embedding`` or ``text``.
        use: the name of the perturbation.
        against: what it makes worse.
        options: of the perturbation, as typed.
    """

    opened: Trained
    of: str
    use: str
    against: str
    seed: int
    options: Mapping[str, Any] = attrs.field(factory=dict)
    _losses: dict[str, Any] = attrs.field(factory=dict)

    def at(self, strength: Strength) -> Any:
        """The perturbation with a strength.

        Raises:
            UserError: there is no such perturbation, it has no such option, or it is not for what is perturbed.
        """
        config_class = manager().config_class("perturbation", self.use)
        known = keys(config_class)
        knob = KNOBS[self.of][1]
        if knob not in known:
            raise UserError(f"--use {self.use} has no option {knob}: it is no attack on {_PLURAL[self.of]}{self._others(knob)}")
        table: dict[str, Any] = {**self.options, knob: strength.value, "against": self.against}
        if "of" in known:
            table["of"] = "text" if self.of == "embedding" else self.of
        if self.against == "agreement" and "space" in known:
            table["space"] = self._space()
        made = structure(config_class, table)
        if isinstance(made, list):
            flaw = made[0]
            helps = f"; did you mean {flaw.nearest!r}?" if flaw.nearest else ""
            raise UserError(
                f"--use {self.use}: {'.'.join(map(str, flaw.path))}: {flaw.what}"
                + (f"; expected {flaw.expected}" if flaw.expected else "")
                + helps
            )
        return manager().factory("perturbation", self.use)(made, Context(seed=self.seed, image_shape=self.opened.model.image_shape))

    def _others(self, knob: str) -> str:
        """Attacks that have the option."""
        fits = [name for name in manager().names("perturbation") if knob in keys(manager().config_class("perturbation", name))]
        return f"; there are {', '.join(fits)}" if fits else ""

    def _space(self) -> str:
        """The name of the loss that learns a common space, whose weights are the model's."""
        from ibllm import agreement
        from ibllm.api import weights_file

        if not self._losses:
            learned = agreement.learned_space(self.opened.model, self.opened.recipe, weights_file(self.opened.folder))
            if learned is None:
                raise UserError(
                    f"--against agreement: {self.opened.path} has no loss that learned a common space of texts and images (contrastive, say), "
                    "and no other has a gradient"
                )
            self._losses = {learned.name: learned.loss}
        return next(iter(self._losses))

    def prepare(self, perturbation: Any) -> None:
        """Shows a perturbation that learns from texts those of the training data."""
        if isinstance(perturbation, LearnsWords):
            texts = self.opened.dataset.corpus("train", min(TEXTS, self.opened.dataset.sizes()["train"]))
            perturbation.learn(texts, sentences_of(self.opened))

    def cycle(self, samples: Samples, numbers: npt.NDArray[np.int64]) -> Cycle:
        """A cycle of some items, on the model's device."""
        model = self.opened.model
        batch = collate(samples, model.tokenizers, numbers).to(model.device)
        return Cycle(model, batch, self._losses, key=(self.seed, "attack"))

    def attack(self, perturbation: Any, samples: Samples, numbers: npt.NDArray[np.int64], generation: int) -> Attacked:
        """Some items, perturbed. `generation` seeds the noise of drawings as `Evaluation.generated` does."""
        from ibllm_core.model.compute import arithmetic

        model = self.opened.model
        cycle = self.cycle(samples, numbers)
        with arithmetic(model.tf32), model.precision():
            if self.of == "image":
                y = perturbation.perturbed(cycle).y
                return Attacked(images=to_pixels(y))
            if self.of == "text":
                assert samples.captions is not None
                texts = _rewritten(perturbation, cycle, samples.captions)
                return Attacked(texts=texts, drawn=draw_texts(model, texts, generation, numbers))
            batch = perturbation.perturbed(cycle)
        with model.inference():
            z = cycle.of(batch).z_x
            return Attacked(drawn=to_pixels(model.sample_image(z, Rng((generation, "generate"), numbers, model.device))))


_PLURAL = {"image": "images", "embedding": "embeddings", "text": "texts"}


def _rewritten(perturbation: Any, cycle: Cycle, texts: Sequence[str]) -> list[str]:
    if isinstance(perturbation, RewritesTexts):
        return perturbation.rewritten(cycle, list(texts))
    tokenizer = cycle.model.tokenizers["text_encoder"]
    x: Tokens = perturbation.perturbed(cycle).x
    return tokenizer.decode(x.ids.cpu().numpy())


def draw_texts(model: Model, texts: Sequence[str], generation: int, numbers: npt.NDArray[np.int64]) -> Pixels:
    """(b h w c) drawings of texts, their noise that of the items."""
    return model.generate(list(texts), seed=generation, numbers=numbers, batch=BATCH)


def sentences_of(opened: Trained) -> Callable[[str], bool]:
    """Whether a text is a sentence of the data's grammar, where the dataset can take captions apart (its ``composer()``); elsewhere every text is one."""
    composer = getattr(opened.recipe.data.config, "composer", None)
    if composer is None:
        return lambda text: True
    made: Any = composer()
    return (lambda text: made.things(text) is not None) if made.grid is not None else (lambda text: True)


def generation_seed(seed: int, split: str) -> int:
    """What `Evaluation.generated` keys the noise by."""
    return derive_key(seed, split)


def options_of(sets: Sequence[str]) -> dict[str, Any]:
    """``steps=50`` → the option; values as TOML has them. Raises `UserError` for what is none."""
    found: dict[str, Any] = {}
    for word in sets:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {word}: expected KEY=VALUE, steps=50 say")
        try:
            found[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value.strip()
    return found


def require(of: str, opened: Trained) -> None:
    """Raises `UserError` where the model has not the parts that an attack on `of` needs."""
    needed = ("image_encoder", "text_decoder") if of == "image" else ("text_encoder", "image_decoder", "image_encoder", "text_decoder")
    if missing := [name for name in needed if name not in opened.recipe.parts]:
        raise UserError(f"--of {of}: {opened.path} has no {', '.join(missing)}")


def known_use(use: str) -> None:
    """Raises `UserError` where no perturbation has that name."""
    names = manager().names("perturbation")
    if use not in names:
        guess = nearest(use, names)
        raise UserError(
            f"--use {use}: there is no such attack; " + (f"did you mean {guess}? " if guess else "") + f"There are: {', '.join(names)}"
        )


def samples_of(opened: Trained, split: str, numbers: npt.NDArray[np.int64]) -> Samples:
    """Items of a split."""
    return take(opened.dataset, split, numbers)


def path_name(path: Path) -> str:
    """A run's name in tables: its folder's."""
    return path.resolve().name
