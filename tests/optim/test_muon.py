"""Muon for matrices and AdamW for the rest, as if each were alone; one optimizer to checkpoints and rates."""

from __future__ import annotations

import math

import pytest
import torch
from ibllm_optim.config import MuonConfig
from torch import Tensor, nn

from ibllm_core.interfaces.context import Context
from ibllm_core.model.players import Player, pack_optimizer, unpack_optimizer

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch < 2.9")

SHAPES = {"layer.weight": (6, 4), "layer.bias": (6,), "embedding.weight": (5, 4), "conv.weight": (3, 2, 3, 3)}


def fresh() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def gradients(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def walk(optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], steps: range) -> None:
    for step in steps:
        for name, gradient in gradients(step).items():
            if name in parameters:
                parameters[name].grad = gradient.clone()
        optimizer.step()


def build(config: MuonConfig, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    from ibllm_optim.muon import Muon

    return Muon(config, Context()).build(parameters)


def test_each_parameter_goes_where_its_own_optimizer_takes_it() -> None:
    together, apart = fresh(), fresh()
    walk(build(MuonConfig(lr=0.02, others=0.5, weight_decay=0.1), together), together, range(4))
    matrix = {"layer.weight": apart["layer.weight"]}
    walk(torch.optim.Muon(matrix.values(), lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), matrix, range(4))
    tables = {name: apart[name] for name in ("embedding.weight", "conv.weight")}
    walk(torch.optim.AdamW(tables.values(), lr=0.01, weight_decay=0.1), tables, range(4))
    vector = {"layer.bias": apart["layer.bias"]}
    walk(torch.optim.AdamW(vector.values(), lr=0.01, weight_decay=0.0), vector, range(4))
    for name, expected in apart.items():
        torch.testing.assert_close(together[name], expected, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize(("scale", "factor"), [("rms", 0.2 * math.sqrt(6)), ("shape", math.sqrt(6 / 4))])
def test_an_update_is_orthogonal_and_as_long_as_its_shape_asks(scale: str, factor: float) -> None:
    """Newton–Schulz with Jordan's coefficients leaves singular values within 0.7 and 1.2 of their target (his post, figure of the iteration)."""
    parameters = fresh()
    before = parameters["layer.weight"].detach().clone()
    walk(build(MuonConfig(lr=0.1, scale=scale, weight_decay=0.0), parameters), parameters, range(1))
    moved = (before - parameters["layer.weight"].detach()) / (0.1 * factor)
    values = torch.linalg.svdvals(moved)
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_it_goes_on_from_a_checkpoint_as_if_nothing_happened() -> None:
    config = MuonConfig(lr=0.02)
    whole, parts = fresh(), fresh()
    walk(build(config, whole), whole, range(6))
    first = build(config, parts)
    walk(first, parts, range(3))
    tensors, values = pack_optimizer(first)
    second = build(config, parts)
    unpack_optimizer(second, {name: tensor.clone() for name, tensor in tensors.items()}, values)
    walk(second, parts, range(3, 6))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_schedule_moves_both_rates() -> None:
    parameters = fresh()
    optimizer = build(MuonConfig(lr=0.02, others=0.5), parameters)
    Player("model", parameters, [], optimizer, 2.0, 1).set_rate(0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.004, 0.002, 0.002])


def test_without_matrices_or_without_the_rest_there_is_one_optimizer() -> None:
    matrices = {"a.weight": fresh()["layer.weight"]}
    assert len(build(MuonConfig(), matrices).param_groups) == 1
    vectors = {"a.bias": fresh()["layer.bias"]}
    assert len(build(MuonConfig(weight_decay=0.0), vectors).param_groups) == 1


def test_an_older_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match=r"muon needs torch >= 2\.9; this is torch " + torch.__version__.split("+")[0]):
        build(MuonConfig(), fresh())
