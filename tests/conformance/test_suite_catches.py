"""The suites themselves: sound stand-ins pass every check, and a part that is broken on purpose is caught by the check that is meant for it."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import numpy.typing as npt
import pytest
import torch
from ibllm_testing import (
    DatasetSuite,
    DiscriminatorSuite,
    ImageDecoderSuite,
    ImageEncoderSuite,
    ImageTokenizerSuite,
    LossSuite,
    OptimizerSuite,
    ScheduleSuite,
    Suite,
    TextDecoderSuite,
    TextEncoderSuite,
    TokenizerSuite,
    stand_ins,
)
from ibllm_testing.dataset import SquaresDataset
from torch import Tensor, nn

from ibllm.plugin import TextDecoder
from ibllm_core.host.options import Config, DatasetConfig, LossConfig, option
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.dataset import Samples
from ibllm_core.interfaces.image import DrawingDecoder
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.loss import AdversarialLoss, Loss, Value, WholeBatchLoss
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.optimisation import Optimizer, Schedule
from ibllm_core.model.cycle import Cycle
from tests import processes


@attrs.frozen(kw_only=True)
class Plain(Config):
    """No options but one; the capabilities are set on a subclass."""

    words = frozenset[str]()
    asks = frozenset[str]()
    alone: ClassVar[tuple[str, ...]] = ()
    knob: int = option(1, help="nothing", ge=0)

    def provides(self) -> frozenset[str]:
        return type(self).words

    def needs(self) -> frozenset[str]:
        return type(self).asks

    def trainable(self) -> tuple[str, ...]:
        return type(self).alone


def config(
    provides: Sequence[str] = (), needs: Sequence[str] = (), base: type[Config] = Plain, trainable: Sequence[str] = ()
) -> type[Config]:
    words = {"words": frozenset(provides), "asks": frozenset(needs), "alone": tuple(trainable), "__doc__": "A test's."}
    return attrs.frozen(kw_only=True)(type("Given", (base,), words))


def suite(base: type[Suite], factory: Callable[[Any, Context], Any], options: type[Config], **more: Any) -> Suite:
    """A suite that tests what `factory` makes instead of an installed component."""
    given = {
        "component": "broken",
        "factory": lambda self: factory,
        "config_class": lambda self: options,
        "torch_free_modules": lambda self: (),
    }
    made: Suite = type("Tested", (base,), given | more)()
    return made


def checks(of: Suite) -> list[str]:
    return [name for name in dir(of) if name.startswith("test_")]


def run(of: Suite, check: str, tmp_path: Path | None = None) -> None:
    call = getattr(of, check)
    given = {"device": torch.device("cpu"), "tmp_path": tmp_path}
    call(**{name: given[name] for name in inspect.signature(call).parameters})


# Sound ones.


def size(context: Context) -> int:
    assert context.tokenizer is not None
    return context.tokenizer.size


def text_encoder(_: Any, context: Context) -> nn.Module:
    return stand_ins.TinyTextEncoder(size(context), context.width)


def text_decoder(_: Any, context: Context) -> nn.Module:
    return stand_ins.TinyTextDecoder(size(context), 10, context.latent)


def image_encoder(_: Any, context: Context) -> nn.Module:
    return stand_ins.TinyImageEncoder(context.image_shape[0], context.width)


def drawer(_: Any, context: Context) -> nn.Module:
    return stand_ins.TinyDrawer(context.latent, context.image_shape)


def token_drawer(_: Any, context: Context) -> nn.Module:
    assert context.image_tokens is not None
    return stand_ins.TinyTokenDrawer(context.latent, context.image_tokens, size(context))


def critic(_: Any, context: Context) -> nn.Module:
    return stand_ins.TinyCritic(context.latent, context.image_shape[0])


def image_tokenizer(_: Any, context: Context) -> nn.Module:
    return stand_ins.TinyCodec(context.image_shape)


@attrs.frozen(kw_only=True)
class Squares(DatasetConfig):
    """A test's."""

    def splits(self) -> Mapping[str, str]:
        return {"train": "seen", "test": "unseen"}

    def validation_split(self) -> str:
        return "train"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (3, 32, 32)

    def provides(self) -> frozenset[str]:
        return frozenset({"captions", "images", "pairs", "questions"})


CODES = config(["tokens", "latents", "regularisation"])
DRAWS = config(["differentiable_draw", "noise", "conditioning_augmentation"])
TOKENS = config(["image_tokens", "noise", "exact_likelihood", "caption_likelihood"], ["image_tokenizer", "image_tokenizer.tokens"])
SOUND: Mapping[str, Suite] = {
    "text_encoder": suite(TextEncoderSuite, text_encoder, config(["soft_tokens"], trainable=["table"])),
    "text_decoder": suite(TextDecoderSuite, text_decoder, config(["exact_likelihood", "prefix"])),
    "image_encoder": suite(ImageEncoderSuite, image_encoder, config()),
    "drawer": suite(ImageDecoderSuite, drawer, DRAWS),
    "token_drawer": suite(ImageDecoderSuite, token_drawer, TOKENS),
    "critic": suite(DiscriminatorSuite, critic, config(["second_order", "features"])),
    "image_tokenizer": suite(ImageTokenizerSuite, image_tokenizer, CODES),
    "tokenizer": suite(TokenizerSuite, lambda *_: stand_ins.LetterTokenizer(), config()),
}


@pytest.mark.parametrize(("name", "check"), [(name, check) for name, sound in SOUND.items() for check in checks(sound)])
def test_sound_parts_pass(name: str, check: str) -> None:
    run(SOUND[name], check)


# Broken ones: each does what the sound one does but for one thing.


class TooWide(stand_ins.TinyTextEncoder):
    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        z = super().encode(embeddings, mask)
        return Latent(torch.cat([z.tokens, z.tokens], -1), z.mask, z.pooled)


class Leaky(stand_ins.TinyTextEncoder):
    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        z = super().encode(embeddings, mask)
        return Latent(z.tokens, z.mask, z.pooled + embeddings.mean(1))


class Mutating(stand_ins.TinyTextEncoder):
    def forward(self, tokens: Tokens) -> Latent:
        tokens.ids[:, 0] = 3
        return super().forward(tokens)


class Crowded(stand_ins.TinyTextEncoder):
    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        z = super().encode(embeddings, mask)
        return Latent(z.tokens, z.mask, z.pooled - z.pooled.mean(0, keepdim=True))


class Unseeded(stand_ins.TinyTextEncoder):
    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        return super().encode(embeddings + 0.1 * torch.randn_like(embeddings), mask)


class Elsewhere(stand_ins.TinyTextEncoder):
    """Draws from numpy's generator in training."""

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        return super().encode(embeddings * float(np.random.rand()) if self.training else embeddings, mask)


class Listed(stand_ins.TinyTextEncoder):
    """Picks by a list, which is copied to the device each time."""

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        return super().encode(embeddings + embeddings[:, [0]], mask)


class Replacing(stand_ins.TinyTextEncoder):
    """Puts a new tensor where its running mean was."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(vocabulary, width)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(width))

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        self.mean = torch.lerp(self.mean, embeddings.detach().mean((0, 1)), 0.1)
        return super().encode(embeddings, mask)


class Tallying(stand_ins.TinyTextEncoder):
    """Counts its passes in Python."""

    passes = 0

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        self.passes += 1
        return super().encode(embeddings, mask)


class Tired(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes.add_(1)
        tired: Tensor = self.layer(x).tanh() / self.passes
        return tired


class Tiring(stand_ins.TinyTextEncoder):
    """Has a block that gives something else when it is computed again."""

    checkpointed = ("block",)

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(vocabulary, width)
        self.block = Tired(width)

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        return super().encode(self.block(embeddings), mask)


class Hidden(stand_ins.TinyTextEncoder):
    """Keeps a random table where no state dict sees it."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(vocabulary, width)
        self.secret = [torch.randn(width)]

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        return super().encode(embeddings + self.secret[0], mask)


class Idle(stand_ins.TinyTextEncoder):
    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(vocabulary, width)
        self.spare = nn.Linear(width, width)


class Wandering(stand_ins.TinyTextEncoder):
    """Follows the batch's statistics, trained or not."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(vocabulary, width)
        self.norm, self.spare = nn.Linear(width, width), nn.Linear(width, width)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(width))

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        with torch.no_grad():
            self.mean.lerp_(embeddings.mean((0, 1)), 0.1)
        return super().encode(self.norm(embeddings), mask)


class Reading(stand_ins.TinyTextEncoder):
    """Asks a tensor for its value, which the meta device has not."""

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        longest = int(mask.sum(1).max())
        return super().encode(embeddings * min(longest, 1), mask)


class Summing(stand_ins.TinyTextEncoder):
    """Loses everything below a half under bf16."""

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        z = super().encode(embeddings, mask)
        return Latent(z.tokens, z.mask, z.pooled + (1.0 if torch.is_autocast_enabled(embeddings.device.type) else 0.0))


class Branching(stand_ins.TinyTextEncoder):
    def forward(self, tokens: Tokens) -> Latent:
        z = super().forward(tokens)
        return Latent(z.tokens, z.mask, z.pooled * (2 if torch.compiler.is_compiling() else 1))


class Shut(stand_ins.TinyTextEncoder):
    """Once frozen, it takes itself for the beginning of the graph."""

    def encode(self, embeddings: Tensor, mask: Tensor) -> Latent:
        trained = any(p.requires_grad for p in self.parameters())
        return super().encode(embeddings if trained else embeddings.detach(), mask)


class Severed(stand_ins.TinyImageEncoder):
    def forward(self, y: Tensor) -> Latent:
        return super().forward(y.detach())


class Ahead(stand_ins.TinyTextDecoder):
    """Looks at the token that it is to tell."""

    def logits(self, ids: Tensor, mask: Tensor, z: Latent) -> Tensor:
        return super().logits(ids, mask, z) + nn.functional.one_hot(ids.roll(-1, 1), self.vocabulary)


class Unnormalised(stand_ins.TinyTextDecoder):
    def nll(self, tokens: Tokens, z: Latent, prefix: Tokens | None = None) -> Tensor:
        return 0.9 * super().nll(tokens, z, prefix)


class Counting(stand_ins.TinyTextDecoder):
    """Counts the prefix too."""

    def nll(self, tokens: Tokens, z: Latent, prefix: Tokens | None = None) -> Tensor:
        return super().nll(tokens, z) if prefix is None else super().nll(tokens, z, prefix) + 0.1 * tokens.ids[:, 1]


class Endless(stand_ins.TinyTextDecoder):
    def sample(self, z: Latent, rng: Rng | None = None, **more: Any) -> Tokens:
        written = super().sample(z, rng, **more)
        return Tokens(written.ids.clamp(min=3), written.mask)


class Loud(stand_ins.TinyDrawer):
    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        return 3 * super().draw(z, noise)


class Deaf(stand_ins.TinyDrawer):
    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        return super().draw(z, torch.zeros_like(noise))


class LatentLeak(stand_ins.TinyDrawer):
    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        return super().draw(Latent(z.tokens, z.mask, z.pooled + z.tokens.mean(1)), noise)


class NoDoubleBackward(torch.autograd.Function):
    """x → x, whose gradient forgets that it depends on anything."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return (2 * ctx.saved_tensors[0] * gradients[0]).detach()


class FirstOrder(stand_ins.TinyCritic):
    def forward(self, y: Tensor, z: Latent) -> Tensor:
        return super().forward(y, z) + NoDoubleBackward.apply(self.features(y, z)[0]).mean((1, 2))  # type: ignore[no-untyped-call]


class Stubborn(stand_ins.TinyCodec):
    """Decodes otherwise than it reconstructs."""

    def decode(self, ids: Tensor) -> Tensor:
        return super().decode(ids) * 0.5


class Uncommitted(stand_ins.TinyCodec):
    def reconstruct(self, y: Tensor) -> Any:
        found = super().reconstruct(y)
        found.regularisation = torch.zeros_like(found.regularisation)
        return found


class Miscounting(stand_ins.TinyCodec):
    levels = (3, 3)


class Severing(stand_ins.TinyCodec):
    def decode_latents(self, latents: Tensor) -> Tensor:
        return super().decode_latents(latents.detach())


@attrs.frozen(kw_only=True)
class Sized(Plain):
    """A test's, with a live option."""

    words = frozenset({"differentiable_draw", "noise", "conditioning_augmentation"})
    size: float = option(1.0, help="of the drawing's tones", live=True)


class Stale(stand_ins.TinyDrawer):
    """Reads its live option once, when it is built."""

    def __init__(self, config: Sized, context: Context) -> None:
        super().__init__(context.latent, context.image_shape)
        self.config, self.size = config, config.size

    def draw(self, z: Latent, noise: Tensor) -> Tensor:
        return super().draw(z, noise) * self.size / 2


class Forgetful(stand_ins.LetterTokenizer):
    def decode_one(self, ids: Sequence[int]) -> str:
        return super().decode_one(ids).replace(" ", "")


def reader(cls: type[stand_ins.TinyTextEncoder], trainable: Sequence[str] = ()) -> Suite:
    return suite(TextEncoderSuite, lambda _, context: cls(size(context), context.width), config(["soft_tokens"], trainable=trainable))


def writer(cls: type[TextDecoder]) -> Suite:
    made: Any = cls
    return suite(TextDecoderSuite, lambda _, context: made(size(context), 10, context.latent), config(["exact_likelihood", "prefix"]))


def drawing(cls: type[DrawingDecoder], options: type[Config] = DRAWS) -> Suite:
    made: Any = cls
    return suite(ImageDecoderSuite, lambda _, context: made(context.latent, context.image_shape), options)


def seeing(cls: type[nn.Module], options: type[Config]) -> Suite:
    return suite(ImageTokenizerSuite, lambda _, context: cls(context.image_shape), options)


BROKEN: Sequence[tuple[Suite, str, str]] = (
    (reader(TooWide), "test_shapes_are_as_declared", r"tokens has shape .*the interface says \(b n d\)"),
    (reader(Leaky), "test_padding_never_changes_a_result", "pooled differs by .* what the masks leave out"),
    (reader(Mutating), "test_inputs_are_not_changed", "text ids differs by"),
    (reader(Crowded), "test_the_batch_never_changes_a_result", "pooled differs by .* other items of a batch"),
    (reader(Unseeded), "test_the_same_seed_gives_the_same_result", "global generator"),
    (reader(Unseeded), "test_training_draws_from_no_global_generator", "ibllm.plugin has Dropout"),
    (reader(Elsewhere), "test_training_draws_from_no_global_generator", "numpy's global generator"),
    (reader(Listed), "test_training_waits_for_no_device", "an index of Python's numbers"),
    (
        reader(Replacing),
        "test_a_pass_can_be_captured",
        "cannot be captured: a pass puts another tensor in the place of mean; change it in place",
    ),
    (reader(Tallying), "test_a_pass_can_be_captured", "cannot be captured: a pass changes passes, which would stay as it is"),
    (reader(Tiring), "test_recomputed_it_gives_the_same", "recomputed in the backward pass, blocks must give the same"),
    (reader(Hidden), "test_its_state_dict_is_all_there_is", "not in its state dict"),
    (reader(Idle), "test_gradients_reach_every_parameter", "no gradient reached spare.bias, spare.weight"),
    (reader(Wandering, ["ghost"]), "test_what_may_be_trained_alone_is", "no such sub-module with parameters"),
    (reader(Wandering, ["spare"]), "test_what_may_be_trained_alone_is", "nothing that its passes give has a gradient"),
    (reader(Wandering, ["norm"]), "test_what_may_be_trained_alone_is", "while norm is trained alone, mean must stay as it is"),
    (reader(Reading), "test_it_is_built_and_walked_on_the_meta_device", "meta"),
    (reader(Summing), "test_bf16_gives_nearly_the_same", "pooled is off by"),
    (reader(Branching), "test_compiled_it_gives_the_same", "torch.compile must not change"),
    (reader(Shut), "test_gradients_pass_through_when_it_is_frozen", "hands no gradient on to the embeddings"),
    (
        suite(ImageEncoderSuite, lambda _, c: Severed(c.image_shape[0], c.width), config()),
        "test_gradients_pass_through_when_it_is_frozen",
        "nothing that its passes give has a gradient",
    ),
    (writer(Ahead), "test_steps_give_what_reading_the_whole_gives", "steps and logits must agree"),
    (writer(Unnormalised), "test_probabilities_sum_to_one", "sums to"),
    (writer(Counting), "test_a_prefix_conditions_and_is_not_counted", "the chain rule does not hold"),
    (writer(Endless), "test_written_texts_are_texts", r"expected beginning \(1\)"),
    (drawing(Loud), "test_shapes_are_as_declared", r"images in \[−1, 1\]"),
    (drawing(Deaf), "test_noise_does_what_is_declared", "two samples with different rng are equal"),
    (suite(ImageDecoderSuite, Stale, Sized), "test_live_options_act_in_use", "size is live, but changed in use it does not do"),
    (drawing(LatentLeak), "test_padding_never_changes_a_result", "drawn differs by|nll differs by"),
    (
        drawing(stand_ins.TinyDrawer, config(["differentiable_draw", "conditioning_augmentation"])),
        "test_noise_does_what_is_declared",
        "vary",
    ),
    (drawing(stand_ins.TinyDrawer, config(["noise"])), "test_its_class_agrees_with_its_capabilities", "lacks differentiable_draw"),
    (drawing(stand_ins.TinyDrawer, config(["differentiable_draw", "noise"])), "test_conditioning_augmentation", "not declared"),
    (drawing(stand_ins.TinyDrawer, config(["draws nicely"])), "test_capabilities_are_known_words", "draws nicely: no words of"),
    (drawing(stand_ins.TinyDrawer, config((), ["kitchen"])), "test_capabilities_are_known_words", "needs 'kitchen'"),
    (
        suite(DiscriminatorSuite, lambda _, c: FirstOrder(c.latent, c.image_shape[0]), config(["second_order", "features"])),
        "test_second_order",
        "finite differences give",
    ),
    (suite(DiscriminatorSuite, critic, config(["second_order"])), "test_features", "not declared"),
    (seeing(Stubborn, CODES), "test_reconstructing_is_encoding_and_decoding", "the two ways must agree"),
    (seeing(Miscounting, CODES), "test_shapes_are_as_declared", "digits of 3 · 3 levels do not make 8 ids"),
    (seeing(Uncommitted, CODES), "test_the_regularisation_is_what_is_declared", "trains nothing"),
    (
        seeing(stand_ins.TinyCodec, config(["tokens", "latents"])),
        "test_the_regularisation_is_what_is_declared",
        "regularisation is not declared",
    ),
    (seeing(Severing, CODES), "test_latents_are_decoded_differentiably", "no gradient goes through decode_latents"),
    (seeing(stand_ins.TinyCodec, config(["tokens"])), "test_its_class_agrees_with_its_capabilities", "lacks latents"),
    (
        drawing(stand_ins.TinyDrawer, config(["differentiable_draw", "noise", "image_latents"])),
        "test_its_class_agrees_with_its_capabilities",
        "needs\\(\\) lacks image_tokenizer",
    ),
    (suite(TokenizerSuite, lambda *_: Forgetful(), config()), "test_its_corpus_comes_back", "did not come back"),
)


@pytest.mark.parametrize(
    ("broken", "check", "words"), BROKEN, ids=lambda value: value if isinstance(value, str) and value.startswith("test_") else ""
)
def test_broken_parts_are_caught(broken: Suite, check: str, words: str) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=words):
        run(broken, check)


# Losses.


@attrs.frozen(kw_only=True)
class Adversarial(LossConfig):
    """A test's."""

    def players(self) -> tuple[str, ...]:
        return ("model", "critic")

    def needs(self) -> frozenset[str]:
        return frozenset({"text_encoder", "image_decoder", "image_decoder.differentiable_draw"})


@attrs.frozen(kw_only=True)
class Reads(LossConfig):
    """A test's."""

    def needs(self) -> frozenset[str]:
        return frozenset({"image_encoder", "text_decoder"})


class Attached(AdversarialLoss):
    """Its critic's side trains the generator."""

    def critic(self, cycle: Cycle) -> Value:
        return (cycle.score(cycle.y_fake, cycle.z_x) - cycle.score(cycle.y, cycle.z_x)).mean()

    def forward(self, cycle: Cycle) -> Value:
        return -cycle.score(cycle.y_fake, cycle.z_x.detach()).mean()


class PerItem(Attached):
    def forward(self, cycle: Cycle) -> Value:
        return -cycle.score(cycle.y_fake, cycle.z_x)


class Straying(Loss):
    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.mean() + cycle.image_nll.mean()


class Miscounting(Loss):
    def count(self, cycle: Cycle) -> Tensor:
        return cycle.x_out.mask.sum()

    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.sum(), cycle.x_out.mask[:, 1:].sum()


class Dicing(Loss):
    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.mean() * torch.rand(())


class Listing(Loss):
    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll[[0, 1]].mean()


class Ramping(Loss):
    def __init__(self) -> None:
        super().__init__()
        self.weight = 0.0

    def forward(self, cycle: Cycle) -> Value:
        self.weight += 0.1
        return self.weight * cycle.text_nll.mean()


class Useless(Loss):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.mean()


class Single(Loss):
    """Has no value for one item."""

    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.mean() / (len(cycle) - 1)


class Padded(Loss):
    """Divides by the padding too."""

    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.mean() / cycle.x_out.ids.shape[1]


class Comparing(Loss):
    """Its items are compared within what it is handed."""

    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.softmax(0).square().sum()


class Rolling(Attached):
    """Another item's latent is one of the same share."""

    def critic(self, cycle: Cycle) -> Value:
        return cycle.score(cycle.y, cycle.z_x.detach().roll()).square().mean()


class Forward(WholeBatchLoss):
    """Shares are no items of a batch for it."""

    def represent(self, cycle: Cycle) -> Tensor:
        return cycle.text_nll / len(cycle)

    def compare(self, together: Tensor, rng: Rng) -> Tensor:
        return together.logsumexp(0)


class Coarse(Loss):
    """Tells another value under bf16."""

    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.mean() * (2 if torch.is_autocast_enabled(cycle.y.device.type) else 1)


class Dropping(Loss):
    """Draws its dropout from torch's generator; nobody sees it in evaluation mode."""

    def forward(self, cycle: Cycle) -> Value:
        return nn.functional.dropout(cycle.text_nll, training=self.training).mean()


class Bursting(Loss):
    """Has no value in training mode."""

    def forward(self, cycle: Cycle) -> Value:
        return cycle.text_nll.mean() / (0 if self.training else 1)


class Steep(Loss):
    """Has no gradient in training mode."""

    def forward(self, cycle: Cycle) -> Value:
        value = cycle.text_nll.mean()
        return (value - value.detach()).abs().sqrt() if self.training else value


@pytest.mark.parametrize(
    ("cls", "options", "check", "words"),
    [
        (Dropping, Reads, "test_it_is_played_in_training", "in training mode equal seed, step and batch must give equal values"),
        (Bursting, Reads, "test_it_is_played_in_training", "not finite in training mode"),
        (Steep, Reads, "test_it_is_played_in_training", "the gradient of .* not finite in training mode"),
        (Attached, Adversarial, "test_the_critics_side_leaves_the_model_alone", "gives gradients to image_decoder, text_encoder"),
        (PerItem, Adversarial, "test_values_are_finite_and_of_the_right_shape", "has shape"),
        (Straying, Reads, "test_gradients_reach_what_it_needs_and_nothing_else", "reach image_decoder, text_encoder"),
        (Straying, Adversarial, "test_it_is_a_loss_of_the_players_it_names", "played by"),
        (Miscounting, Reads, "test_its_count_is_what_it_divides_by", "forward counts"),
        (Dicing, Reads, "test_the_same_key_gives_the_same_value", "draw from cycle.rng"),
        (Listing, Reads, "test_training_waits_for_no_device", "an index of Python's numbers"),
        (Ramping, Reads, "test_a_pass_can_be_captured", "cannot be captured: a pass changes weight"),
        (Useless, Reads, "test_its_own_parameters_are_reached", "its own scale"),
        (Padded, Reads, "test_padding_never_changes_a_value", "the model's value differs by"),
        (Comparing, Reads, "test_shares_of_a_batch_give_what_the_whole_gives", "derives from WholeBatchLoss"),
        (Rolling, Adversarial, "test_shares_of_a_batch_give_what_the_whole_gives", "the critic's gradient.*asks Cycle.whole"),
        (Forward, Reads, "test_shares_of_a_batch_give_what_the_whole_gives", "in two micro-batches"),
        (Coarse, Reads, "test_bf16_gives_nearly_the_same", "the model's value is off by"),
        (Single, Reads, "test_values_are_finite_and_of_the_right_shape", "not finite for 1 items"),
    ],
)
def test_broken_losses_are_caught(cls: type[Loss], options: type[Config], check: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        run(suite(LossSuite, lambda *_: cls(), options), check)


def test_what_is_wrong_in_training_only_passes_all_other_checks() -> None:
    """So that the check that is meant for it is needed."""
    for cls in (Dropping, Bursting):
        tested = suite(LossSuite, lambda *_, cls=cls: cls(), Reads)
        for check in set(checks(tested)) - {"test_it_is_played_in_training"}:
            run(tested, check)


def test_an_excuse_is_for_a_check_that_there_is_and_has_a_reason() -> None:
    with pytest.raises(TypeError, match="excuses names 'test_bf16_gives_nearly_same'; did you mean 'test_bf16_gives_nearly_the_same'"):
        suite(LossSuite, lambda *_: Dicing(), Reads, excuses={"test_bf16_gives_nearly_same": "it cannot"})
    with pytest.raises(TypeError, match="no reason for test_bf16_gives_nearly_the_same"):
        suite(LossSuite, lambda *_: Dicing(), Reads, excuses={"test_bf16_gives_nearly_the_same": " "})
    suite(LossSuite, lambda *_: Dicing(), Reads, excuses={"test_bf16_gives_nearly_the_same": "its logits overflow"})


# Data, optimizers, schedules.


class Restless(SquaresDataset):
    """An item depends on what else is asked for."""

    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        found = super().samples(split, indices)
        return attrs.evolve(found, captions=[f"{caption} {len(indices)}" for caption in found.captions or ()])


class Silent(SquaresDataset):
    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        return attrs.evolve(super().samples(split, indices), questions=None, answers=None)


class Lenient(SquaresDataset):
    def samples(self, split: str, indices: npt.NDArray[np.int64]) -> Samples:
        return super().samples("train", indices)


@pytest.mark.parametrize(
    ("cls", "check", "words"),
    [
        (Restless, "test_an_item_is_a_function_of_its_number", "an item alone"),
        (Silent, "test_it_gives_what_it_provides", "provides.. has questions, samples lack"),
        (Lenient, "test_an_unknown_split_is_refused", "KeyError"),
    ],
)
def test_broken_data_are_caught(cls: type[SquaresDataset], check: str, words: str) -> None:
    run(suite(DatasetSuite, lambda *_: SquaresDataset(), Squares), check)
    with pytest.raises(AssertionError, match=words):
        run(suite(DatasetSuite, lambda *_: cls(), Squares), check)


class Decaying(Optimizer):
    """Decays everything, gains and biases too."""

    def build(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(list(parameters.values()), lr=0.1, weight_decay=0.5)


class Averse(Schedule):
    def factor(self, step: int, steps: int) -> float:
        return 1 - 2 * step / steps


def test_broken_optimisation_is_caught() -> None:
    with pytest.raises(AssertionError, match="fewer than two axes decays"):
        run(suite(OptimizerSuite, lambda *_: Decaying(), config()), "test_vectors_do_not_decay")
    with pytest.raises(AssertionError, match="the factor of step"):
        run(suite(ScheduleSuite, lambda *_: Averse(), config()), "test_it_is_defined_for_every_step")


# A stranger's package: the one that the documentation has its readers write.

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "plugin.md"
_FILE = re.compile(r"^```\{code-block\} \w+\n:caption: (\S+\.py)\n\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "failed"), [("", 0), ("import torch\n", 2)])
def test_a_strangers_package_is_tested_the_same_way(site: Any, tmp_path: Path, first: str, failed: int) -> None:
    files = dict(_FILE.findall(PAGE.read_text(encoding="utf-8")))
    files["pile/plugin.py"] = first + files["pile/plugin.py"]
    (tmp_path / "test_pile.py").write_text(files.pop("test_pile.py"))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -p ibllm_testing.fixtures -p no:cacheprovider\n")
    site.install("pile", {"pile": "pile.plugin"}, {name.removesuffix(".py").replace("/", "."): text for name, text in files.items()})
    command = processes.command("-m", "pytest", "-q", "-m", "not slow", "test_pile.py")
    done = subprocess.run(command, cwd=tmp_path, env=site.environment(), capture_output=True, text=True, check=False)
    each = len(checks(TextEncoderSuite())) - 1  # the one that compiles is slow
    assert f"{2 * each - failed} passed" in done.stdout, done.stdout
    assert (f"{failed} failed" in done.stdout) == (failed > 0), done.stdout
    assert done.stdout.count("must be importable without torch") >= failed, done.stdout
