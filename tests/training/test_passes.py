"""How parts' passes are made: compiled where that pays, blocks computed again where memory is short; neither changes what is learned."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibllm.passes import LARGE, LONG, arrange, arrange_passes
from ibllm_core.model import compute
from ibllm_core.recipe.schema import Compute
from ibllm_core.training.session import Session

from .test_stage import opened


def trained(session: Session, steps: int = 2) -> tuple[dict[str, Tensor], int]:
    """The weights after some steps of the joint stage, and how many bytes were kept for backward passes."""
    stage, kept = session.recipe.stages["joint"], 0
    arrange(session)

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    trainer, feeder = session.trainer(stage), session.feeder(stage)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for micro in islice(iter(feeder), steps):
            trainer.iterate(micro)
    feeder.close()
    return session.model.state_dict(), kept


def test_recomputed_blocks_give_the_same_weights_and_keep_less(tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Dropout is drawn again as it was. Parts without blocks are told, and the critic, whose penalty takes a second derivative, is left alone."""
    more = ["model.text_decoder={use='lstm'}", "training.accumulate=2"]
    (wanted, most), (found, less) = (
        trained(opened(tiny(f"compute.activation_checkpointing={again}", *more), tmp_path / again)) for again in ("false", "true")
    )
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert less < 0.9 * most
    with pytest.warns(match="activation_checkpointing: text_decoder names no blocks to recompute"):
        arrange(session := opened(tiny("compute.activation_checkpointing=true", *more), tmp_path / "told"))
    assert len(session.notices) == 1


class Parts:
    """A model of so many parameters on a device, as far as it is asked."""

    def __init__(self, size: int, device: str) -> None:
        with torch.device("meta"):
            self.parts = {"text_encoder": nn.Linear(size // 100, 100, bias=False)}
        self.device = torch.device(device)


@pytest.mark.parametrize(
    ("wanted", "device", "size", "steps", "expected"),
    [
        ("auto", "cuda", LARGE, LONG, True),
        ("auto", "cuda", LARGE - 100, LONG, False),
        ("auto", "cuda", LARGE, LONG - 1, False),
        ("auto", "cpu", LARGE, LONG, False),
        (True, "cpu", 100, 1, True),
        (False, "cuda", LARGE, LONG, False),
    ],
)
def test_auto_compiles_where_it_pays(
    monkeypatch: pytest.MonkeyPatch, wanted: Any, device: str, size: int, steps: int, expected: bool
) -> None:
    monkeypatch.setattr(torch, "compile", lambda eager: eager)
    model, told = Parts(size, device), list[str]()
    compiles = arrange_passes(model, Compute(compile=wanted), steps, told.append, lambda _: nullcontext())  # type: ignore[arg-type]
    assert compiles is expected
    assert ["parts are compiled when they are first used" in line for line in told] == [True] * expected


def test_what_cannot_be_compiled_runs_as_it_is_and_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile

    def broken(*_: object) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", lambda eager: real(eager, backend=broken))
    layer, told, x = nn.Linear(3, 2), list[str](), torch.ones(1, 3)
    expected = layer(x)
    model: Any = SimpleNamespace(parts={"text_encoder": layer}, device=torch.device("cpu"))
    arrange_passes(model, Compute(compile=True), 1, told.append, lambda _: nullcontext())
    assert torch.equal(layer(x), expected) and torch.equal(layer(x), expected)
    assert len(told) == 2
    assert told[1].startswith("text_encoder could not be compiled and runs without: ") and "no compiler here" in told[1]


def test_the_processs_arithmetic_is_set_in_one_place() -> None:
    """What TF32, cuDNN and the like are is said by `ibllm_core.model.compute.arithmetic` alone, for training, evaluation and use."""
    root = Path(compute.__file__).parents[2]
    words = (
        "torch.backends",
        "set_float32_matmul_precision",
        "fp32_precision",
        "allow_tf32",
        "use_deterministic_algorithms",
        "set_flush_denormal",
    )
    files = [*(root / "ibllm_core").rglob("*.py"), *(root / "plugins").rglob("*.py")]
    found = {str(file.relative_to(root)) for file in files if any(word in file.read_text(encoding="utf-8") for word in words)}
    assert found == {"ibllm_core/model/compute.py"}
