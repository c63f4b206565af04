"""What losses are asked, with a model of stand-ins that can do everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ibllm.blocks.borrowing import borrowed
from ibllm.contracts.inputs import fabricate
from ibllm_core.host.options import LossConfig
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context, ImageTokens
from ibllm_core.interfaces.latent import Tokens
from ibllm_core.interfaces.loss import AdversarialLoss, CriticLoss, Loss, Value
from ibllm_core.interfaces.tokenizer import PAD, Tokenizer
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model
from ibllm_core.model.players import CRITIC, MODEL, SIDES
from ibllm_core.model.shares import Ranks, Shares
from ibllm_core.model.watch import Present
from ibllm_core.recipe.draft import needs
from ibllm_core.recipe.schema import PARTS

from .checks import expect, finite, has_shape, near, round_trip, same, unreached
from .inputs import Inputs
from .inputs import fabricate as fabricate_inputs
from .stand_ins import TinyCodec, TinyCritic, TinyDrawer, TinyImageEncoder, TinyTextDecoder, TinyTextEncoder, TinyTokenDrawer
from .suite import LATENT, Suite
from .waiting import nothing_waits, play_as_captured


def stand_ins(context: Context, *, works_on: str = "images", by_patch: bool = False) -> Model:
    """A model of all parts, each with every capability of its kind.

    Args:
        works_on: what the image decoder draws: images, or tokens or latents of the codec.
        by_patch: the critic gives a score for each patch.
    """
    assert context.tokenizer is not None
    tokenizer, shape = context.tokenizer, context.image_shape
    codec, latents = TinyCodec(shape), works_on == "latents"
    image_tokens = ImageTokens(vocabulary=codec.vocabulary, rows=codec.grid[0], columns=codec.grid[1])
    drawer = TinyDrawer(LATENT, codec.latent_shape if latents else shape)
    parts: dict[str, nn.Module] = {
        "text_encoder": TinyTextEncoder(tokenizer.size, LATENT),
        "image_decoder": TinyTokenDrawer(LATENT, image_tokens, tokenizer.size) if works_on == "tokens" else drawer,
        "image_encoder": TinyImageEncoder(shape[0], LATENT),
        "text_decoder": TinyTextDecoder(tokenizer.size, tokenizer.max_length, LATENT),
        "discriminator": TinyCritic(LATENT, shape[0], by_patch),
        "image_tokenizer": codec,
    }
    tokenizers: Mapping[str, Tokenizer] = {"text_encoder": tokenizer, "text_decoder": tokenizer}
    return Model(parts, tokenizers, shape, latents)


class Term(Loss):
    """What a composite is made of, when it is tested: one of the two likelihoods of the method."""

    def __init__(self, which: int) -> None:
        super().__init__()
        self.which = which

    def forward(self, cycle: Cycle) -> Tensor:
        return (cycle.text_nll if self.which else cycle.image_nll).mean()


class LossSuite(Suite):
    """What a player minimises. A loss runs eagerly (`compute.compile` compiles parts), so nothing is asked of it under ``torch.compile``.

    Attributes:
        never_trained: parameter of the loss → why no gradient may reach it.
        term: number of a composite's term → the loss that stands for it, one of the method's two likelihoods.
        steps: batches within which every parameter of the loss must be reached.
        bf16: how far values under bf16 autocast may be off, as a fraction of their size.
    """

    kind = "loss"
    term: Callable[[int], Loss] = Term
    once = Suite.once | {"test_it_is_a_loss_of_the_players_it_names"}
    never_trained: Mapping[str, str] = MappingProxyType({})
    steps: int = 12
    bf16: float = 0.1

    def model(self, device: torch.device, *, by_patch: bool = False, latents: bool = False, seed: int = 5) -> Model:
        """Stand-ins that can do what the loss needs."""
        asked = self._needs()
        tokens = any(need.startswith("image_decoder.") and need.partition(".")[2] in _OF_TOKENS for need in asked)
        works_on = "tokens" if tokens else "latents" if latents else "images"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return stand_ins(self.context(), works_on=works_on, by_patch=by_patch).to(device)

    def cycle(self, model: Model, loss: Any, m: Inputs, key: int = 0, step: int = 0) -> Cycle:
        """A batch on its way, the composite's terms at hand."""
        terms = {name: self.term(number) for number, name in enumerate(self._terms())}
        return Cycle(model, m.batch(), {"loss": loss, **terms}, (key,), Present(step))

    def _ready(self, device: torch.device, items: int = 3) -> tuple[Any, Model, Inputs]:
        return self.make(device=device).eval(), self.model(device).eval(), fabricate_inputs(self.context(), items).to(device)

    def _needs(self) -> frozenset[str]:
        return needs(self.config())

    def _terms(self) -> tuple[str, ...]:
        config = self.config()
        return config.terms() if isinstance(config, LossConfig) else ()

    def _parts(self) -> set[str]:
        """The parts that the loss says it goes through."""
        own = {need.partition(".")[0] for need in self._needs()} & set(PARTS)
        return own | ({"text_encoder", "image_decoder", "image_encoder", "text_decoder"} if self._terms() else set())

    def _sides(self, loss: Any, cycle: Cycle) -> dict[str, Value]:
        """The raw value for each player."""
        found: dict[str, Value] = {}
        if isinstance(loss, AdversarialLoss | CriticLoss):
            found["critic"] = loss.critic(cycle)
        if isinstance(loss, Loss):
            found["model"] = loss(cycle)
        return found

    def _values(self, loss: Any, model: Model, m: Inputs) -> dict[str, Tensor]:
        """The same, of a fresh cycle, as numbers to compare."""
        return {f"the {player}'s value": _first(v).detach() for player, v in self._sides(loss, self.cycle(model, loss, m)).items()}

    # What is asked.

    def test_it_is_a_loss_of_the_players_it_names(self) -> None:
        """The class (Loss, CriticLoss, AdversarialLoss) and the config's `players` agree; the config is a LossConfig."""
        config, loss = self.config(), self.make()
        expect(isinstance(config, LossConfig), f"{self._name}: its config derives from no ibllm_core.host.options.LossConfig")
        assert isinstance(config, LossConfig)
        expect(isinstance(loss, Loss | CriticLoss), f"{self._name}: its factory gives a {type(loss).__name__}, no Loss and no CriticLoss")
        plays = [player for player, side in SIDES.items() if isinstance(loss, side)]
        expect(set(plays) == set(config.players()), f"{self._name}: the config says {config.players()}, its class is played by {plays}")

    def test_values_are_finite_and_of_the_right_shape(self, device: torch.device) -> None:
        """A mean (), or a sum and a count, () each; finite for three items and for one."""
        loss, model, m = self._ready(device)
        for some in (m, m.take(0)):
            for player, value in self._sides(loss, self.cycle(model, loss, some)).items():
                pieces = value if isinstance(value, tuple) else (value,)
                expect(
                    len(pieces) in (1, 2),
                    f"{self._name}: the {player}'s value has {len(pieces)} pieces: expected a mean, or a sum and its count",
                )
                for piece in pieces:
                    has_shape(f"{self._name}: the {player}'s value", piece, "", ())
                finite({f"the {player}'s value": pieces[0]}, f"for {len(some)} items: {self._name}")

    def test_a_critic_that_judges_patches_will_do(self, device: torch.device) -> None:
        """Scores (b p) of a critic that judges each patch are averaged."""
        if "discriminator" not in self._parts():
            return
        loss, _, m = self._ready(device)
        model = self.model(device, by_patch=True).eval()
        for player, value in self._sides(loss, self.cycle(model, loss, m)).items():
            has_shape(f"{self._name}: the {player}'s value with scores (b p)", _first(value), "", ())

    def test_a_decoder_of_latents_will_do(self, device: torch.device) -> None:
        """Of an image decoder that works on a codec's latents, values are finite too, and gradients come as far as it."""
        if "image_decoder" not in self._parts():
            return
        loss, model, m = self._ready(device)
        model = self.model(device, latents=True).eval()
        for player, value in self._sides(loss, self.cycle(model, loss, m)).items():
            finite({f"the {player}'s value of a decoder of latents": _first(value)}, self._name)
            _backward(value)
            reached = any(p.grad is not None for p in model.part("image_decoder").parameters())
            wanted = player == "model" and isinstance(loss, Loss) and any(n.startswith("image_decoder.") for n in self._needs())
            expect(reached or not wanted, f"{self._name}: with a decoder of latents, no gradient reaches it")

    def test_it_walks_on_the_meta_device(self) -> None:
        """Built and played under ``torch.device("meta")``: what `ibllm check` does."""
        meta = torch.device("meta")
        with meta:
            loss, model = self.make(), self.model(meta)
        batch = _perturbed(fabricate(model, 3, meta))
        cycle = Cycle(model, batch, {"loss": loss, **{name: self.term(n) for n, name in enumerate(self._terms())}})
        for player in (player for player, side in SIDES.items() if isinstance(loss, side)):
            value = cycle.value("loss") if player == "model" else cycle.critic_value("loss")
            has_shape(f"{self._name}: the {player}'s value on the meta device", value, "", ())

    def test_training_waits_for_no_device(self) -> None:
        """No number, size or mask is read from the device, and nothing is copied to it: a card is never waited for between two log lines."""
        meta = torch.device("meta")
        with meta:
            loss, model = self.make().train(), self.model(meta).train()
        batch, terms = _perturbed(fabricate(model, 3, meta)), {name: self.term(n) for n, name in enumerate(self._terms())}
        cycle = Cycle(model, batch, {"loss": loss, **terms})
        with nothing_waits(meta):
            for value in self._sides(loss, cycle).values():
                with suppress(NotImplementedError):  # the meta device lacks an operation
                    _backward(value)

    def test_a_pass_can_be_captured(self) -> None:
        """What playing it changes it changes in place, and in tensors alone: an iteration that is captured plays the same kernels on the same memory again."""
        cpu = torch.device("cpu")
        loss, model, m = self.make().train(), self.model(cpu).train(), fabricate_inputs(self.context(), 3)

        def play() -> None:
            for value in self._sides(loss, self.cycle(model, loss, m)).values():
                _backward(value)

        play_as_captured(self._name, loss, play)

    def test_gradients_reach_what_it_needs_and_nothing_else(self, device: torch.device) -> None:
        """The model's side reaches a part that `needs` names and no other: what is not named there may not be in the model."""
        loss, model, m = self._ready(device)
        if not isinstance(loss, Loss):
            return
        _backward(loss(self.cycle(model, loss, m)))
        reached = {name for name, part in model.parts.items() if any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())}
        lent = {module for name in self._parts() & model.parts.keys() for module in borrowed(model.parts[name]).values()}
        stray = sorted(name for name in reached - self._parts() - self.shared.keys() if model.parts[name] not in lent)
        expect(not stray, f"{self._name}: gradients reach {', '.join(stray)}, which its needs() does not name")
        able = not self._parts() - {"discriminator"} or bool(reached & self._parts())
        expect(able, f"{self._name}: no gradient reaches any of {', '.join(sorted(self._parts()))}, which it needs")

    def test_whatever_is_frozen_it_can_be_played(self, device: torch.device) -> None:
        """With any one of its parts trained and all others frozen it gives a finite gradient, or none, and leaves the frozen alone."""
        for trained in sorted(self._parts()):
            loss, model, m = self._ready(device)
            for name, part in model.parts.items():
                part.requires_grad_(name == trained)
            for value in self._sides(loss, self.cycle(model, loss, m)).values():
                if _first(value).requires_grad:
                    _backward(value)
            for name, part in model.parts.items():
                mine = name == trained
                changed = [n for n, p in part.named_parameters() if p.requires_grad != mine or (p.grad is not None and not mine)]
                expect(not changed, f"{self._name}: with {trained} alone to be trained, {name}'s {', '.join(changed)} got a gradient")
            gradients = {n: p.grad for n, p in model.parts[trained].named_parameters() if p.grad is not None}
            finite(gradients, f"as the gradient of {trained}: {self._name}")

    def test_the_critics_side_leaves_the_model_alone(self, device: torch.device) -> None:
        """The critic's value gives gradients to the critic (and to a penalty's own parameters) only: what comes from the model is detached."""
        loss, model, m = self._ready(device)
        if not isinstance(loss, AdversarialLoss | CriticLoss):
            return
        _backward(loss.critic(self.cycle(model, loss, m)))
        reached = {name for name, part in model.parts.items() if any(p.grad is not None for p in part.parameters())}
        expect("discriminator" in reached, f"{self._name}: the critic's value gives the discriminator no gradient")
        expect(
            reached == {"discriminator"},
            f"{self._name}: the critic's value gives gradients to {', '.join(sorted(reached - {'discriminator'}))}; detach",
        )

    def test_its_own_parameters_are_reached(self, device: torch.device) -> None:
        """Every parameter of the loss itself gets a gradient within a few batches."""
        loss, model, m = self._ready(device)
        loss.train()
        waiting = {name for name, _ in loss.named_parameters()} - set(self.never_trained)
        optimizer = torch.optim.Adam([*loss.parameters(), nn.Parameter(torch.zeros(1))], lr=1e-2)
        for step in range(self.steps if waiting else 0):
            optimizer.zero_grad(set_to_none=True)
            for value in self._sides(loss, self.cycle(model, loss, m, step)).values():
                _backward(value)
            waiting &= set(unreached(loss))
            optimizer.step()
        expect(not waiting, f"{self._name}: in {self.steps} batches no gradient reached its own {', '.join(sorted(waiting))}")

    def test_its_count_is_what_it_divides_by(self, device: torch.device) -> None:
        """`count` gives what forward counts, from the batch alone, and counts of micro-batches add up; None where forward gives a mean."""
        loss, model, m = self._ready(device)
        if not isinstance(loss, Loss):
            return
        value, counted = loss(self.cycle(model, loss, m)), loss.count(self.cycle(model, loss, m))
        if not isinstance(value, tuple):
            expect(counted is None, f"{self._name}: forward gives a mean, but count gives {counted}: expected None")
            return
        expect(
            counted is not None, f"{self._name}: forward gives a sum and a count, but count gives None: unequal shares would weigh wrongly"
        )
        assert counted is not None
        expect(float(counted) == float(value[1]), f"{self._name}: count gives {float(counted)}, forward counts {float(value[1])}")
        shares = [loss.count(self.cycle(model, loss, some)) for some in (m.take(0), m.take(1, 2))]
        total = sum(float(share) for share in shares if share is not None)
        expect(
            total == float(counted),
            f"{self._name}: the counts of two micro-batches add up to {total}, the whole batch has {float(counted)}",
        )

    def test_shares_of_a_batch_give_what_the_whole_gives(self, device: torch.device) -> None:
        """Micro-batches of any sizes together have the whole batch's value and its gradients, for the model's parts, the critic's and the loss's own."""
        config = self.config()
        if isinstance(config, LossConfig) and config.undivided():
            return
        loss, model, m = self._ready(device)
        found, wanted = self.played(loss, model, [m.take(0), m.take(1, 2)]), self.played(loss, model, [m])
        remedy = "one that compares items derives from WholeBatchLoss, one that needs other items' values asks Cycle.whole"
        same(found, wanted, f"{self._name}: in two micro-batches a batch must give what it gives as one; {remedy}")

    def played(self, loss: Any, model: Model, batches: Sequence[Inputs], ranks: Ranks | None = None, items: int = 0) -> dict[str, Tensor]:
        """Values and gradients of each player's side: of a batch of so many `items` of which this process has the micro-batches `batches`."""
        terms = {name: self.term(number) for number, name in enumerate(self._terms())}
        shares = Shares(model, [some.trimmed().batch() for some in batches], {"loss": loss, **terms}, ranks=ranks, items=items)
        named = dict([*model.named_parameters(), *((f"losses.{n}", p) for n, p in loss.named_parameters())])
        found: dict[str, Tensor] = {}
        for player in (player for player, side in SIDES.items() if isinstance(loss, side)):
            for p in named.values():
                p.grad = None
            value = torch.zeros((), device=model.device)
            for cycle in shares.cycles():
                share = (cycle.value("loss") if player == MODEL else cycle.critic_value("loss")) / len(batches)
                _backward(share)
                value = value + share.detach()
            shares.end_turn()
            # Nobody plays with the other player's parameters.
            mine = {n: p for n, p in named.items() if n.startswith("losses.") or (".discriminator." in n) == (player == CRITIC)}
            gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in mine.items()}
            over = ranks or Ranks()
            found |= {f"the {player}'s gradient of {n}": over.total(gradient) / over.count for n, gradient in gradients.items()}
            found[f"the {player}'s value"] = over.total(value) / over.count
        return found

    def test_the_same_key_gives_the_same_value(self, device: torch.device) -> None:
        """All randomness comes from the cycle's keyed generators: the same key gives the same value, whatever torch's generator holds."""
        loss, model, m = self._ready(device)
        found = []
        for number in range(2):
            torch.manual_seed(number)
            found.append(self._values(loss, model, m))
        same(found[1], found[0], f"{self._name}: equal seed, step and batch must give equal values; draw from cycle.rng(…)")

    def test_it_is_played_in_training(self, device: torch.device) -> None:
        """In training mode, as it is in a run: finite values of the right shape, for three items and for one; their gradients are finite; the same key
        gives the same value, dropout included, whatever torch's generator holds; another step does not fail."""
        _, _, m = self._ready(device)
        found = []
        for number in range(2):
            torch.manual_seed(number)
            loss, model = self.make(device=device).train(), self.model(device).train()
            found.append(self._values(loss, model, m))
        same(
            found[1], found[0], f"{self._name}: in training mode equal seed, step and batch must give equal values; draw from cycle.rng(…)"
        )
        for step, some in enumerate((m, m.take(0)), 1):
            for player, value in self._sides(loss, self.cycle(model, loss, some, step=step)).items():
                has_shape(f"{self._name}: the {player}'s value in training mode", _first(value), "", ())
                finite({f"the {player}'s value": _first(value)}, f"in training mode, for {len(some)} items: {self._name}")
                _backward(value)
        gradients = {f"the gradient of {n}": p.grad for n, p in [*model.named_parameters(), *loss.named_parameters()] if p.grad is not None}
        finite(gradients, f"in training mode: {self._name}")

    def test_padding_never_changes_a_value(self, device: torch.device) -> None:
        """Texts with more padding after them (PAD, masked) give the same value and critic's value."""
        loss, model, m = self._ready(device)
        more = m.padded(m.x.ids.shape[1] + 2)
        x, other = (Tokens(torch.where(text.mask, text.ids, PAD), text.mask) for text in (more.x, more.other))
        found, wanted = self._values(loss, model, attrs.evolve(m, x=x, other=other)), self._values(loss, model, m)
        same(found, wanted, f"{self._name}: what the texts' masks leave out must not matter")

    def test_its_state_dict_is_all_there_is(self, device: torch.device) -> None:
        """Through safetensors into a loss with other first weights: the same values."""
        _, model, m = self._ready(device)
        losses = [self.make(seed=seed, device=device).eval() for seed in (1, 2)]
        round_trip(losses[0], losses[1])
        one, other = (self._values(loss, model, m) for loss in losses)
        same(other, one, f"{self._name}: something that counts is not in its state dict")

    def test_bf16_gives_nearly_the_same(self, device: torch.device) -> None:
        """Under bf16 autocast values and gradients are finite, and values near those of fp32."""
        loss, model, m = self._ready(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            values = self._sides(loss, self.cycle(model, loss, m))
        found = {f"the {player}'s value": _first(value) for player, value in values.items()}
        finite(found, f"under bf16 autocast: {self._name}")
        near(found, self._values(loss, model, m), self.bf16, f"{self._name}: bf16 autocast must give nearly what fp32 gives")
        for value in values.values():
            _backward(value)
        gradients = {f"the gradient of {n}": p.grad for n, p in [*model.named_parameters(), *loss.named_parameters()] if p.grad is not None}
        finite(gradients, f"under bf16 autocast: {self._name}")


#: Capabilities that only a token decoder has.
_OF_TOKENS = ("image_tokens", "caption_likelihood", "exact_likelihood")


def _perturbed(batch: Batch) -> Batch:
    """The batch as a stage's perturbation would leave it."""
    return attrs.evolve(batch, y_clean=batch.y, y_perturbed=None if batch.y is None else batch.y.clone())


def _first(value: Value) -> Tensor:
    """The mean or the sum."""
    return value[0] if isinstance(value, tuple) else value


def _backward(value: Value) -> None:
    total = _first(value)
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
