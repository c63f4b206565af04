"""Cycles in image and latent space equal what independent code computes from the same parts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_objectives.config import BackTranslationConfig, CycleImageConfig, CycleLatentConfig
from ibllm_objectives.round_trip import BackTranslation, CycleImage, CycleLatent, straight_through
from ibllm_testing.stand_ins import LetterTokenizer
from torch import Tensor

from ibllm_core.errors import UserError
from ibllm_core.host import manager as plugins
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.image import TokenDecoder
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.noise import Rng
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

MakeCycle = Callable[..., Cycle]
CONTEXT = Context(latents={"text_encoder": 5, "image_encoder": 5})


def test_straight_through_is_one_hot_in_value_and_soft_in_gradient() -> None:
    logits = torch.tensor([[[0.2, 1.3, -0.4], [2.0, 0.0, 0.1]]], dtype=torch.float64, requires_grad=True)
    ids, weigh = torch.tensor([[1, 0]]), torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64)
    hard = straight_through(ids, logits)
    assert hard.tolist() == [[[0, 1, 0], [1, 0, 0]]]
    (found,) = torch.autograd.grad((hard * weigh).sum(), logits)
    h = 1e-6
    for t in range(2):
        for v in range(3):
            shift = torch.zeros_like(logits)
            shift[0, t, v] = h
            up, down = (((logits.detach() + s).softmax(-1) * weigh).sum() for s in (shift, -shift))
            assert float(found[0, t, v]) == pytest.approx(float((up - down) / (2 * h)), abs=1e-8)


def written_by(model: Model, z: Tensor) -> list[list[int]]:
    """The likeliest texts, one word at a time; never padding, never a beginning, an end at the latest at the eighth place."""
    writer, rows = model.part("text_decoder"), []
    for pooled in z:
        row = [1]
        while row[-1] != 2 and len(row) < 8:
            logits = writer.out((writer.table(torch.tensor(row[-1])) + pooled).tanh()).detach().tolist()  # type: ignore[operator]
            logits[0] = logits[1] = float("-inf")
            row.append(2 if len(row) == 7 else max(range(9), key=logits.__getitem__))
        rows.append(row)
    return rows


def by_hand(model: Model, y: Tensor, noise: Tensor, texts: list[list[int]], first: list[Tensor] | None) -> tuple[float, list[Tensor]]:
    """The mean nll, and each text's probabilities; `first` holds them at the point where the texts were written."""
    reader, drawer, looker, writer = (model.part(name) for name in ("text_encoder", "image_decoder", "image_encoder", "text_decoder"))
    total, probabilities = 0.0, []
    for i, text in enumerate(texts):
        z = looker.map(y[i].flatten()).tanh()  # type: ignore[operator]
        p = torch.stack([writer.out((writer.table.weight[word] + z).tanh()).softmax(-1) for word in text[:-1]])  # type: ignore[operator, union-attr, index]
        probabilities.append(p)
        mix = torch.eye(9, dtype=torch.float64)[text[1:]] + p - (p if first is None else first[i])
        embedded = torch.cat([reader.table.weight[1:2], mix @ reader.table.weight])  # type: ignore[union-attr, index, operator]
        drawn = drawer.map(torch.cat([embedded.mean(0), noise[i]])).tanh()  # type: ignore[operator]
        total += float((y[i].flatten() - drawn).square().sum()) / len(texts)
    return total, probabilities


def test_cycle_image_value_and_gradient(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    loss = CycleImage(CycleImageConfig(per="sample"), CONTEXT)
    noise = made.rng("cycle_image").normal(2).double()
    with torch.no_grad():
        texts = written_by(model, cycle().z_y.pooled)
        value, first = by_hand(model, made.y, noise, texts, None)
    found = loss(made)
    assert found.item() == pytest.approx(value)
    torch.testing.assert_close(CycleImage(CycleImageConfig(), CONTEXT)(cycle()), found / 48)
    weights: list[Tensor] = [
        model.part("text_encoder").table.weight,  # type: ignore[list-item, union-attr]
        model.part("image_decoder").map.weight,  # type: ignore[list-item, union-attr]
        model.part("image_encoder").map.weight,  # type: ignore[list-item, union-attr]
        model.part("text_decoder").out.weight,  # type: ignore[list-item, union-attr]
    ]
    h = 1e-6
    for weight, gradient in zip(weights, torch.autograd.grad(found, weights), strict=True):
        assert gradient.abs().sum() > 0
        for place in ((2, 1), (4, 3), (1, 4)):
            values = []
            for shift in (h, -h):
                with torch.no_grad():
                    weight[place] += shift
                    values.append(by_hand(model, made.y, noise, texts, first)[0])
                    weight[place] -= shift
            assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-8)


def test_cycle_image_takes_unpaired_images_and_no_captions(model: Model, batch: Batch) -> None:
    alone = attrs.evolve(batch, x=None, x_out=None, y=None, unpaired_y=batch.y)
    loss = CycleImage(CycleImageConfig(), CONTEXT)
    assert loss(Cycle(model, alone)).item() == pytest.approx(loss(Cycle(model, batch)).item())


class Numbered(TokenDecoder):
    """Two ids an image, each with a probability that the pooled latent gives."""

    def __init__(self) -> None:
        super().__init__()
        self.map = torch.nn.Linear(5, 8)

    def nll(self, y: Tensor, z: Latent, rng: Rng) -> Tensor:
        return -self.map(z.pooled).view(-1, 2, 4).log_softmax(-1).gather(-1, y[..., None]).sum((1, 2))

    def sample(self, z: Latent, rng: Rng) -> Tensor:
        raise NotImplementedError


class Halves(torch.nn.Module):
    """The signs of two pixels, as ids 0 and 3."""

    def encode(self, y: Tensor) -> Tensor:
        return (y[:, 0, 0, :2] > 0).long() * 3


def test_cycle_image_goes_through_the_image_tokenizer(model: Model, batch: Batch) -> None:
    model.parts["image_decoder"], model.parts["image_tokenizer"] = Numbered().double(), Halves()
    made, loss = Cycle(model, batch), CycleImage(CycleImageConfig(per="sample"), CONTEXT)
    z = loss.reread_latent(made)
    p = model.part("image_decoder").map(z.pooled).view(-1, 2, 4).softmax(-1)  # type: ignore[operator]
    picked = [p[i, place, 3 * int(made.y[i, 0, 0, place] > 0)] for i in range(3) for place in range(2)]
    torch.testing.assert_close(loss(made), -torch.stack(picked).log().sum() / 3)


def test_cycle_image_refuses_two_tokenizers(model: Model, batch: Batch) -> None:
    model.tokenizers = {"text_encoder": object(), "text_decoder": object()}  # type: ignore[dict-item]
    with pytest.raises(UserError, match="both need the same tokenizer"):
        CycleImage(CycleImageConfig(), CONTEXT)(Cycle(model, batch))


def reached(model: Model) -> set[str]:
    return {name for name, part in model.parts.items() if any(p.grad is not None and p.grad.any() for p in part.parameters())}


def test_back_translation_of_an_image_is_its_likelihood_given_the_caption_written_about_it(model: Model, batch: Batch) -> None:
    """The caption gets no gradient: only the half that draws learns. Unpaired images without any caption will do."""
    alone = Cycle(model, attrs.evolve(batch, x=None, x_out=None, y=None, unpaired_y=batch.y))
    assert batch.y is not None
    with torch.no_grad():
        texts = written_by(model, model.part("image_encoder")(batch.y).pooled)
        value, _ = by_hand(model, batch.y, alone.rng("back_translation").normal(2).double(), texts, None)
    found = BackTranslation(BackTranslationConfig(), CONTEXT)(alone)
    assert isinstance(found, Tensor) and found.item() == pytest.approx(value / 48)
    found.backward()  # type: ignore[no-untyped-call]
    assert reached(model) == {"text_encoder", "image_decoder"}


def test_drawn_captions_follow_the_captioners_probabilities(model: Model, batch: Batch) -> None:
    """The first word over many items of one image; the same key draws the same words."""
    assert batch.y is not None
    many = attrs.evolve(batch, numbers=np.arange(4000), x=None, x_out=None, y=batch.y[:1].expand(4000, -1, -1, -1))
    loss = BackTranslation(BackTranslationConfig(temperature=1.0), CONTEXT)
    written = loss.written(Cycle(model, many))
    assert torch.equal(written.ids, loss.written(Cycle(model, many)).ids)
    writer: Any = model.part("text_decoder")
    with torch.no_grad():
        logits = writer.out((writer.table.weight[1] + model.part("image_encoder")(batch.y[:1]).pooled[0]).tanh())
    wanted = logits.clone()
    wanted[:2] = -torch.inf
    found = torch.bincount(written.ids[:, 1], minlength=9) / 4000
    torch.testing.assert_close(found.double(), wanted.softmax(-1), atol=0.03, rtol=0)


def test_back_translation_of_a_text_is_its_likelihood_given_the_image_drawn_for_it(model: Model, batch: Batch) -> None:
    alone = Cycle(model, attrs.evolve(batch, x=None, x_out=None, y=None, unpaired_x=batch.x))
    assert batch.x is not None
    noise = alone.rng("back_translation").fold("draw").normal(2)
    parts: dict[str, Any] = dict(model.parts.items())
    with torch.no_grad():
        z = parts["image_encoder"](parts["image_decoder"].draw(parts["text_encoder"](batch.x), noise))
        total, count = 0.0, 0
        for row, pooled in zip(batch.x.ids.tolist(), z.pooled, strict=True):
            words = [word for word in row if word]
            for before, word in pairwise(words):
                p = parts["text_decoder"].out((parts["text_decoder"].table.weight[before] + pooled).tanh()).softmax(-1)
                total, count = total - float(p[word].log()), count + 1
    loss = BackTranslation(BackTranslationConfig(of="text"), CONTEXT)
    found = loss(alone)
    assert isinstance(found, tuple) and found[0].item() == pytest.approx(total) and int(found[1]) == count == int(loss.count(alone) or 0)
    found[0].backward()  # type: ignore[no-untyped-call]
    assert reached(model) == {"image_encoder", "text_decoder"}


def test_back_translation_refuses_two_tokenizers(model: Model, batch: Batch) -> None:
    model.tokenizers = {"text_encoder": object(), "text_decoder": object()}  # type: ignore[dict-item]
    with pytest.raises(UserError, match=r"back_translation: .* both need the same tokenizer"):
        BackTranslation(BackTranslationConfig(), CONTEXT)(Cycle(model, batch))


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_cycle_latent_closed_form(cycle: MakeCycle, distance: str) -> None:
    made = cycle()
    found = CycleLatent(CycleLatentConfig(distance=distance), CONTEXT)(made)
    total = 0.0
    for read, wanted in zip(made.z_fake.pooled.detach(), made.z_x.pooled.detach(), strict=True):
        cosine = float(read @ wanted) / float(read.norm() * wanted.norm())
        total += (1 - cosine if distance == "cosine" else float((read - wanted).square().sum()) / 5) / 3
    assert found.item() == pytest.approx(total)


def test_cycle_latent_moves_the_text_encoder_through_the_drawn_image_only(cycle: MakeCycle, model: Model) -> None:
    made, loss = cycle(), CycleLatent(CycleLatentConfig(distance="l2"), CONTEXT)
    wanted = made.z_x.pooled.detach()
    expected = torch.nn.functional.mse_loss(made.z_fake.pooled, wanted)
    table: Tensor = model.part("text_encoder").table.weight  # type: ignore[assignment, union-attr]
    torch.testing.assert_close(*(torch.autograd.grad(value, table, retain_graph=True)[0] for value in (loss(made), expected)))


def test_cycle_latent_projects_to_the_texts_width(cycle: MakeCycle) -> None:
    assert not list(CycleLatent(CycleLatentConfig(), CONTEXT).parameters())
    made = cycle()
    loss = CycleLatent(CycleLatentConfig(), Context(latents={"text_encoder": 5, "image_encoder": 4})).double()
    made.z_fake = Latent(made.z_fake.tokens, made.z_fake.mask, made.z_fake.pooled[:, :4])
    loss(made).backward()
    assert [tuple(p.shape) for p in loss.parameters()] == [(5, 4)]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


@pytest.mark.parametrize("use", ["lstm", "transformer"])
def test_words_are_chosen_by_the_distribution_that_their_gradient_is_of(use: str, cycle: MakeCycle, model: Model) -> None:
    """Whatever of its words the captioner forgets in training; afterwards it forgets them as before."""
    manager, tokenizer = plugins.manager(), LetterTokenizer(size=12, max_length=8)
    options = {
        "lstm": {"word_dropout": 0.5, "dropout": 0.5, "layers": 2},
        "transformer": {"word_dropout": 0.5, "dropout": 0.5, "depth": 1, "heads": 1},
    }
    config = manager.config_class("text_decoder", use)(**options[use])
    torch.manual_seed(0)
    decoder = manager.factory("text_decoder", use)(config, Context(width=8, latent=5, tokenizer=tokenizer)).double().train()
    model.parts["text_decoder"] = decoder
    modes = {module: module.training for module in decoder.modules()}
    torch.manual_seed(1)
    written, logits = CycleImage(CycleImageConfig(), CONTEXT).write_caption(cycle())
    allowed = logits.detach().clone()
    allowed[..., :2] = -torch.inf  # no padding, no second beginning
    counted = written.mask[:, 1:].clone()
    counted[:, tokenizer.max_length - 2 :] = False  # the last place is an end by necessity
    assert counted.sum() > 3
    assert torch.equal(allowed.argmax(-1)[counted], written.ids[:, 1:][counted])
    assert logits.requires_grad
    assert {module: module.training for module in decoder.modules()} == modes
