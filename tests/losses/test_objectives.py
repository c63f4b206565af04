"""Objectives equal what independent code computes from the same parts."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import pytest
import torch
from ibllm_objectives.config import (
    AnswerNLLConfig,
    ContrastiveConfig,
    ContrastiveSigmoidConfig,
    CycleNLLConfig,
    ImageNLLConfig,
    JointConfig,
    QuestionNLLConfig,
    TextNLLConfig,
)
from ibllm_objectives.contrastive import Contrastive, ContrastiveSigmoid, info_nce, pairwise_sigmoid
from ibllm_objectives.joint import Joint
from ibllm_objectives.likelihood import AnswerNLL, CycleNLL, ImageNLL, QuestionNLL, TextNLL
from torch import Tensor, nn

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.context import Context
from ibllm_core.interfaces.latent import Latent
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.model import Model

MakeCycle = Callable[..., Cycle]
CONTEXT = Context(latents={"text_encoder": 5, "image_encoder": 5})


def by_hand(model: Model, texts: list[list[int]], skip: list[int], z: Latent) -> list[float]:
    """−log p of each text token by token, the first `skip` predictions of it not counted."""
    writer = model.part("text_decoder")
    found = []
    for row, text in enumerate(texts):
        total = 0.0
        for place in range(skip[row], len(text) - 1):
            logits = writer.out((writer.table(torch.tensor(text[place])) + z.pooled[row]).tanh())  # type: ignore[operator]
            total -= float(logits.detach().log_softmax(-1)[text[place + 1]])
        found.append(total)
    return found


CAPTIONS = [[1, 4, 5, 2], [1, 6, 2], [1, 7, 8, 4, 2]]


def test_image_nll_is_the_decoders_own(cycle: MakeCycle) -> None:
    made = cycle()
    expected = (made.y - made.y_fake).square().sum() / 3
    torch.testing.assert_close(ImageNLL(ImageNLLConfig(per="sample"), CONTEXT)(made), expected)
    torch.testing.assert_close(ImageNLL(ImageNLLConfig(), CONTEXT)(made), expected / 48)


def test_text_nll_counts_every_token_after_the_beginning(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    expected = by_hand(model, CAPTIONS, [0, 0, 0], made.z_y)
    total, count = TextNLL(TextNLLConfig(), CONTEXT)(made)
    assert total.item() == pytest.approx(sum(expected)) and int(count) == 3 + 2 + 4
    assert TextNLL(TextNLLConfig(per="sample"), CONTEXT)(made).item() == pytest.approx(sum(expected) / 3)


def test_cycle_reads_the_caption_off_the_drawn_image(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    expected = by_hand(model, CAPTIONS, [0, 0, 0], model.part("image_encoder")(made.y_fake))
    total, count = CycleNLL(CycleNLLConfig(), CONTEXT)(made)
    assert total.item() == pytest.approx(sum(expected)) and int(count) == 9
    total.backward()
    assert model.part("text_encoder").table.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_answers_are_counted_and_questions_are_not(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    read = [[1, 5, 8, 2], [1, 6, 7, 5, 2], [1, 4, 6, 4, 2]]
    expected = by_hand(model, read, [1, 2, 1], made.z_y)
    total, count = AnswerNLL(AnswerNLLConfig(), CONTEXT)(made)
    assert total.item() == pytest.approx(sum(expected)) and int(count) == 2 + 2 + 3


def test_questions_are_written_after_a_second_beginning(cycle: MakeCycle, model: Model) -> None:
    made = cycle()
    read = [[1, 1, 5, 2], [1, 1, 6, 7, 2], [1, 1, 4, 2]]
    expected = by_hand(model, read, [1, 1, 1], made.z_y)
    total, count = QuestionNLL(QuestionNLLConfig(), CONTEXT)(made)
    assert total.item() == pytest.approx(sum(expected)) and int(count) == 2 + 3 + 2


def terms() -> dict[str, nn.Module]:
    return {"draw": ImageNLL(ImageNLLConfig(), CONTEXT), "read": TextNLL(TextNLLConfig(), CONTEXT)}


def test_joint_adds_its_terms_with_lambda(cycle: MakeCycle) -> None:
    config = JointConfig(text="draw", image="read", lambda_=0.1)
    losses = {**terms(), "joint": Joint(config, CONTEXT)}
    made = cycle(losses)
    torch.testing.assert_close(made.value("joint"), made.value("draw") + 0.1 * made.value("read"))
    assert config.terms() == ("draw", "read")


def test_lambda_may_move_and_follows_the_balance(cycle: MakeCycle) -> None:
    joint = Joint(JointConfig(text="draw", image="read", lambda_=1.0), CONTEXT)
    joint.config = attrs.evolve(joint.config, lambda_=0.2)
    made = cycle({**terms(), "joint": joint}, step=5)
    torch.testing.assert_close(joint(made), made.value("draw") + 0.2 * made.value("read"))
    joint.balance = 0.5
    torch.testing.assert_close(joint(made), made.value("draw") + 0.1 * made.value("read"))


def test_joint_needs_two_different_terms() -> None:
    with pytest.raises(ValueError, match="expected two different losses"):
        JointConfig(text="image_nll", image="image_nll")


def unit(*shape: int, seed: int) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_info_nce_closed_form() -> None:
    x, y, scale = unit(4, 6, seed=0), unit(4, 6, seed=1), 3.0
    total = 0.0
    for i in range(4):
        row = [math.exp(scale * float(x[i] @ y[j])) for j in range(4)]
        column = [math.exp(scale * float(x[j] @ y[i])) for j in range(4)]
        total -= (math.log(row[i] / sum(row)) + math.log(column[i] / sum(column))) / 2
    assert float(info_nce(x, y, torch.tensor(scale), torch.eye(4, dtype=torch.bool))) == pytest.approx(total / 4)


def test_pairwise_sigmoid_closed_form() -> None:
    x, y, scale, bias = unit(4, 6, seed=0), unit(4, 6, seed=1), 3.0, -2.0
    total = 0.0
    for i in range(4):
        for j in range(4):
            logit = (1 if i == j else -1) * (scale * float(x[i] @ y[j]) + bias)
            total += math.log(1 + math.exp(-logit))
    assert float(pairwise_sigmoid(x, y, torch.tensor(scale), torch.tensor(bias), torch.eye(4, dtype=torch.bool))) == pytest.approx(
        total / 4
    )


def test_contrastive_projects_and_learns_its_temperature(cycle: MakeCycle) -> None:
    loss = Contrastive(ContrastiveConfig(width=3), CONTEXT).double()
    made = cycle()
    x = nn.functional.normalize(made.z_x.pooled @ loss.text.weight.T, dim=-1)
    y = nn.functional.normalize(made.z_y.pooled @ loss.image.weight.T, dim=-1)
    value = loss(made)
    assert value.item() == pytest.approx(float(info_nce(x, y, torch.tensor(1 / 0.07), torch.eye(3, dtype=torch.bool)).detach()), rel=1e-5)
    value.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


def test_the_contrastive_factor_stays_below_its_bound(cycle: MakeCycle) -> None:
    loss = Contrastive(ContrastiveConfig(), CONTEXT).double()
    loss.log_scale.data.fill_(9.0)
    loss(cycle())
    assert loss.log_scale.exp().item() == pytest.approx(100.0)


def test_contrastive_sigmoid_starts_from_its_scale_and_bias(cycle: MakeCycle) -> None:
    loss = ContrastiveSigmoid(ContrastiveSigmoidConfig(width=3), CONTEXT).double()
    made = cycle()
    x = nn.functional.normalize(made.z_x.pooled @ loss.text.weight.T, dim=-1)
    y = nn.functional.normalize(made.z_y.pooled @ loss.image.weight.T, dim=-1)
    value = loss(made)
    assert value.item() == pytest.approx(
        float(pairwise_sigmoid(x, y, torch.tensor(10.0), torch.tensor(-10.0), torch.eye(3, dtype=torch.bool)).detach()), rel=1e-5
    )
    value.backward()
    assert loss.bias.grad is not None and loss.log_scale.grad is not None


def test_what_a_loss_needs_is_declared(batch: Batch) -> None:
    assert "image_decoder.differentiable_draw" in CycleNLLConfig().needs()
    assert "text_decoder.prefix" in AnswerNLLConfig().needs()
    assert ImageNLLConfig().players() == ("model",) and ImageNLLConfig().terms() == ()
