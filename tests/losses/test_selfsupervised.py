"""Self-supervised losses need one encoder each and no pairs; what they hide and how it counts is as they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import numpy as np
import pytest
import torch
from ibllm_cnn.config import CNNImageEncoderConfig
from ibllm_cnn.image_encoder import CNNImageEncoder
from ibllm_selfsupervised.augmentation import jitter_brightness, random_crop, random_erase
from ibllm_selfsupervised.augmentation_contrast import AugmentationContrast, nt_xent
from ibllm_selfsupervised.config import AugmentationContrastConfig, MaskedImageConfig, MaskedTextConfig
from ibllm_selfsupervised.masked_image import MaskedImage, grid_of, random_patches
from ibllm_selfsupervised.masked_text import MaskedText
from ibllm_tokenizers.config import WordConfig
from ibllm_tokenizers.word import WordTokenizer
from ibllm_transformer.config import TransformerTextEncoderConfig
from ibllm_transformer.text_encoder import TransformerTextEncoder
from torch import Tensor

from ibllm_core.errors import UserError
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent, Tokens
from ibllm_core.interfaces.loss import Loss
from ibllm_core.interfaces.noise import Rng
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

from .conftest import IDS, SHAPE, tokens

MakeCycle = Callable[..., Cycle]
CONTEXT = Context(latents={"text_encoder": 5, "image_encoder": 5}, vocabularies={"text_encoder": IDS}, image_shape=SHAPE)


def many(model: Model, rows: list[list[int]], **more: Tensor) -> Cycle:
    return Cycle(model, Batch(numbers=np.arange(len(rows)), x=tokens(rows), **more))


# Masked text.


def test_masked_text_is_the_cross_entropy_of_the_chosen_words(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    loss = MaskedText(MaskedTextConfig(ratio=0.5, unknown=1.0, random=0.0), CONTEXT).double()
    chosen = loss.chosen(made)
    total, expected, number = loss(made), 0.0, 0
    for row, text in enumerate([[1, 4, 5, 2], [1, 6, 2], [1, 7, 8, 4, 2]]):
        read = [3 if chosen[row, place] else word for place, word in enumerate(text)]
        for place, word in enumerate(text):
            if chosen[row, place]:
                z = model.part("text_encoder").table(torch.tensor(read[place]))  # type: ignore[operator]
                expected -= float(loss.head(z).detach().log_softmax(0)[word])
                number += 1
    assert float(total[0].detach()) == pytest.approx(expected, rel=1e-5) and int(total[1]) == number == int(loss.count(made))


def test_only_known_words_are_chosen_and_one_a_text_at_least(model: Model) -> None:
    made = many(model, [[1, 4, 3, 5, 2], [1, 6, 2], [1, 3, 2], [1, 2]] * 50)
    for ratio in (1e-6, 0.5, 1.0):
        loss = MaskedText(MaskedTextConfig(ratio=ratio), CONTEXT)
        chosen = loss.chosen(made)
        assert not (chosen & ((made.texts.ids < 4) | ~made.texts.mask)).any()
        assert chosen.sum(1).view(50, 4)[:, :2].min() >= 1 and chosen.sum(1).view(50, 4)[:, 2:].max() == 0
    assert int(MaskedText(MaskedTextConfig(ratio=1.0), CONTEXT).chosen(made).sum()) == 150


def test_chosen_words_are_replaced_in_the_stated_shares(model: Model) -> None:
    made = many(model, [[1, 4, 5, 6, 7, 8, 2]] * 800)
    loss = MaskedText(MaskedTextConfig(ratio=0.5), CONTEXT)
    chosen = loss.chosen(made)
    before, after = made.texts.ids[chosen], loss.corrupted(made, chosen).ids[chosen]
    # Four standard deviations of a share of about 2000 words.
    assert abs(float(chosen[:, 1:-1].float().mean()) - 0.5) < 0.045
    assert abs(float((after == 3).float().mean()) - 0.8) < 0.036
    # A random word is one of five, and by chance the same in a fifth of the cases.
    assert abs(float((after == before).float().mean()) - 0.12) < 0.03
    assert set(after.tolist()) == {3, 4, 5, 6, 7, 8}
    assert torch.equal(loss.corrupted(made, chosen).ids[~chosen], made.texts.ids[~chosen])


def test_what_is_hidden_depends_on_seed_step_and_item_alone(model: Model) -> None:
    rows = [[1, 4, 5, 6, 2], [1, 7, 8, 4, 5, 6, 7, 2]]
    loss = MaskedText(MaskedTextConfig(ratio=0.5), CONTEXT)
    both, one = many(model, rows), many(model, rows[:1])
    assert torch.equal(loss.chosen(both)[0, :5], loss.chosen(one)[0])
    assert torch.equal(loss.corrupted(both, loss.chosen(both)).ids[0, :5], loss.corrupted(one, loss.chosen(one)).ids[0])


def test_a_text_of_unknown_words_alone_counts_nothing(model: Model) -> None:
    loss, made = MaskedText(MaskedTextConfig(), CONTEXT).double(), many(model, [[1, 3, 2]])
    total, count = loss(made)
    assert float(total.detach()) == 0 and int(count) == 0
    alone = Cycle(model, made.batch, {"masked": loss}).value("masked")
    assert float(alone.detach()) == 0


def test_unpaired_texts_are_read_where_there_are_such(model: Model, batch: Batch) -> None:
    other = tokens([[1, 8, 8, 2]] * 3)
    made = Cycle(model, attrs.evolve(batch, unpaired_x=other))
    assert MaskedText(MaskedTextConfig(ratio=1.0), CONTEXT).chosen(made).sum() == 6


def test_an_encoder_of_other_places_is_refused(model: Model, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(embeddings: Tensor, mask: Tensor) -> Latent:
        return Latent(embeddings[:, :1], mask[:, :1], embeddings[:, 0])

    monkeypatch.setattr(model.part("text_encoder"), "encode", encode)
    with pytest.raises(UserError, match="gives 1 latent places for 5 tokens"):
        MaskedText(MaskedTextConfig(), CONTEXT).double()(Cycle(model, batch))


# Masked images.


@pytest.mark.parametrize(
    ("places", "size", "grid"),
    [
        (64, (32, 32), (1, 8, 8)),
        (128, (32, 32), (2, 8, 8)),
        (192, (64, 64), (3, 8, 8)),
        (1, (32, 32), (1, 1, 1)),
        (8, (32, 64), (1, 2, 4)),
        (16, (64, 32), (2, 4, 2)),
        (3, (32, 32), (3, 1, 1)),
    ],
)
def test_places_are_as_few_grids_as_possible(places: int, size: tuple[int, int], grid: tuple[int, int, int]) -> None:
    assert grid_of(places, *size) == grid


def test_places_that_form_no_grid_are_refused() -> None:
    with pytest.raises(UserError, match="gives 3 latent places, which form no grid of an image of 32 × 64"):
        grid_of(3, 32, 64)


@pytest.mark.parametrize(("patches", "ratio", "masked"), [(16, 0.6, 10), (4, 0.01, 1), (4, 0.99, 3)])
def test_every_image_hides_as_many_patches(patches: int, ratio: float, masked: int) -> None:
    found = random_patches(patches, ratio, Rng((0,), np.arange(500)))
    assert (found.sum(1) == masked).all()
    # Every patch in its turn: four standard deviations of a share of 500.
    assert (found.float().mean(0) - masked / patches).abs().max() < 0.09


def test_masked_image_is_the_error_at_hidden_pixels_and_sees_none_of_them(cycle: MakeCycle, model: Model, batch: Batch) -> None:
    made = cycle()
    torch.manual_seed(0)
    loss = MaskedImage(MaskedImageConfig(patch=2, ratio=0.5), CONTEXT).double()
    loss.colour.data.copy_(torch.tensor([0.1, -0.2, 0.3]))
    masked = random_patches(4, 0.5, made.rng("masked_image"))
    seen, total, pixels = made.y.clone(), 0.0, 0
    for item in range(3):
        for patch in range(4):
            if masked[item, patch]:
                row, column = 2 * (patch // 2), 2 * (patch % 2)
                seen[item, :, row : row + 2, column : column + 2] = loss.colour.detach()[:, None, None]
    drawn = loss.draw(model.part("image_encoder")(seen).tokens).detach()
    for item in range(3):
        for patch in range(4):
            if masked[item, patch]:
                row, column = 2 * (patch // 2), 2 * (patch % 2)
                total += float((made.y[item, :, row : row + 2, column : column + 2].flatten() - drawn[item, patch]).abs().sum())
                pixels += 12
    value = loss(made)
    assert value.item() == pytest.approx(total / pixels, rel=1e-5)
    value.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


def test_a_finer_and_a_coarser_latent_are_brought_to_the_patches() -> None:
    loss = MaskedImage(MaskedImageConfig(patch=8), attrs.evolve(CONTEXT, image_shape=(3, 32, 32)))
    assert loss.draw(torch.zeros(2, 64, 5)).shape == loss.draw(torch.zeros(2, 4, 5)).shape == (2, 16, 3 * 64)


@pytest.mark.parametrize("patch", [5, 32])
def test_patches_divide_the_image(patch: int) -> None:
    with pytest.raises(ValueError, match=f"patch = {patch}: expected a divisor of the images' height 32 and width 32"):
        MaskedImage(MaskedImageConfig(patch=patch), attrs.evolve(CONTEXT, image_shape=(3, 32, 32)))


# Changed copies.


def test_nt_xent_is_the_cross_entropy_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64, generator=generator), dim=1) for _ in range(2))
    z, total = [*a, *b], 0.0
    for i in range(6):
        j = (i + 3) % 6
        others = sum(math.exp(float(z[i] @ z[k]) / 0.3) for k in range(6) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / 0.3) / others)
    assert float(nt_xent(a, b, 0.3)) == pytest.approx(total / 6, rel=1e-9)


@pytest.mark.parametrize("of", ["image", "text"])
def test_contrast_trains_its_encoder_and_its_head_alone(cycle: MakeCycle, model: Model, of: str) -> None:
    config = AugmentationContrastConfig(of=of)
    loss = AugmentationContrast(config, CONTEXT).double()
    value = loss(cycle())
    assert torch.equal(value, loss(cycle())), "same key, same copies"
    value.backward()
    assert all(p.grad is not None for p in loss.parameters())
    assert {name for name, part in model.parts.items() if any(p.grad is not None for p in part.parameters())} == {f"{of}_encoder"}
    assert {need.partition(".")[0] for need in config.needs()} == {f"{of}_encoder", "data"}


def test_contrast_of_one_item_is_nothing_to_learn(model: Model, batch: Batch) -> None:
    assert batch.y is not None
    made = Cycle(model, Batch(numbers=np.arange(1), y=batch.y[:1]))
    assert AugmentationContrast(AugmentationContrastConfig(), CONTEXT).double()(made).item() == 0


def test_text_copies_lose_known_words_only(model: Model) -> None:
    text = tokens([[1, 4, 3, 5, 2], [1, 6, 2]] * 500)
    loss = AugmentationContrast(AugmentationContrastConfig(of="text", word_dropout=0.3), CONTEXT)
    copy: Tokens = loss.text(text, Rng((0,), np.arange(1000)))
    corrupted = copy.ids != text.ids
    assert (copy.ids[corrupted] == 3).all() and not corrupted[text.ids < 4].any() and torch.equal(copy.mask, text.mask)
    assert abs(float(corrupted[text.ids >= 4].float().mean()) - 0.3) < 0.05


def images(b: int, seed: int = 0) -> Tensor:
    return torch.rand(b, 3, 8, 12, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_whole_crop_is_the_image() -> None:
    y = images(4)
    torch.testing.assert_close(random_crop(y, 1.0, Rng((0,), np.arange(4))), y, rtol=0, atol=1e-5)


def test_a_crop_lies_inside_and_is_not_mirrored() -> None:
    # Pixels tell their column and row: what is cut out is a stretch of both, in their order.
    columns, rows = torch.linspace(-1, 1, 12).expand(8, 12), torch.linspace(-1, 1, 8)[:, None].expand(8, 12)
    y = torch.stack([columns, rows, columns]).expand(200, 3, 8, 12)
    cut = random_crop(y, 0.5, Rng((0,), np.arange(200)))
    along, down = cut[:, 0, 0, :], cut[:, 1, :, 0]
    assert (along.diff(dim=1) > 0).all() and (down.diff(dim=1) > 0).all()
    spread = along[:, -1] - along[:, 0]
    assert spread.min() > 0.9 and spread.max() < 2.01 and spread.std() > 0.1
    assert along[:, 0].min() < -0.95 and along[:, -1].max() > 0.95, "crops reach the edges"


def test_shades_change_all_channels_alike() -> None:
    y = images(50) * 0.3
    corrupted = jitter_brightness(y, 0.2, 0.2, Rng((0,), np.arange(50)))
    mean, own = corrupted.mean((1, 2, 3)), y.mean((1, 2, 3))
    assert (mean - own).abs().max() < 0.2001 and (mean - own).std() > 0.05
    factor = (corrupted - mean[:, None, None, None]) / (y - own[:, None, None, None])
    torch.testing.assert_close(factor.amax((1, 2, 3)), factor.amin((1, 2, 3)), rtol=0, atol=1e-2)
    assert jitter_brightness(images(4), 1.0, 0.9, Rng((0,), np.arange(4))).abs().max() <= 1


def test_what_is_erased_is_a_rectangle_of_grey() -> None:
    y = images(200).abs() + 0.1
    gone = (random_erase(y, 0.5, Rng((0,), np.arange(200))) == 0).all(1)
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(gone.sum((1, 2)), rows * columns)
    assert 0 < int(rows.max()) <= 4 and 0 < int(columns.max()) <= 6
    assert torch.equal(random_erase(y, 0.0, Rng((0,), np.arange(200))), y)


# Learning something.


def learn(model: Model, loss: Loss, make: Callable[[np.random.Generator], Batch], steps: int) -> float:
    """The mean value over the last tenth of the steps."""
    generator, values = np.random.default_rng(0), []
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=1e-2)
    for step in range(steps):
        value = Cycle(model, make(generator), {"loss": loss}, (0, step)).value("loss")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    return float(np.mean(values[-steps // 10 :]))


def twins(generator: np.random.Generator) -> Batch:
    """Texts that say one of five words twice."""
    return Batch(numbers=np.arange(16), x=tokens([[1, word, word, 2] for word in generator.integers(4, 9, 16).tolist()]))


def plain(generator: np.random.Generator) -> Batch:
    """Images of one colour each."""
    return Batch(numbers=np.arange(16), y=torch.from_numpy(generator.uniform(-1, 1, (16, 3, 1, 1))).float().expand(16, 3, 16, 16))


def image_model() -> tuple[Model, Context]:
    torch.manual_seed(0)
    context = Context(image_shape=(3, 16, 16), width=16, latents={"image_encoder": 16})
    encoder = CNNImageEncoder(CNNImageEncoderConfig(channels=(8, 16), groups=1), context)
    return Model({"image_encoder": encoder}, {}, (3, 16, 16)), context


def test_a_hidden_word_is_told_from_its_twin() -> None:
    torch.manual_seed(0)
    tokenizer = WordTokenizer(WordConfig(size=IDS, max_length=8), Context())
    context = Context(width=16, latents={"text_encoder": 16}, vocabularies={"text_encoder": IDS}, tokenizer=tokenizer)
    model = Model({"text_encoder": TransformerTextEncoder(TransformerTextEncoderConfig(depth=1, heads=2), context)}, {}, SHAPE)
    value = learn(model, MaskedText(MaskedTextConfig(ratio=0.01, unknown=1.0, random=0.0), context), twins, 100)
    assert value < 0.3, f"{value} nats a word, where guessing takes {math.log(5):.2f}"


def test_a_hidden_patch_is_drawn_from_what_is_left() -> None:
    model, context = image_model()
    value = learn(model, MaskedImage(MaskedImageConfig(patch=4, ratio=0.5), context), plain, 100)
    assert value < 0.2, f"{value}, where a grey guess is 0.5 away from a colour"


def test_changed_copies_find_each_other() -> None:
    model, context = image_model()
    value = learn(model, AugmentationContrast(AugmentationContrastConfig(), context), plain, 60)
    assert value < math.log(31) - 0.7, f"{value}, where guessing takes {math.log(31):.2f}"
