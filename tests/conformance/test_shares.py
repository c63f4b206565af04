"""Neither micro-batches nor ranks change what a loss does: every loss that is registered, by the variants that `test_loss` names."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_testing import LossSuite
from ibllm_testing.inputs import Inputs, fabricate
from torch import Tensor

from ibllm.blocks.layers import Dropout
from ibllm_core.interfaces.latent import Latent
from ibllm_core.interfaces.loss import WholeBatchLoss, log
from ibllm_core.interfaces.noise import Rng
from ibllm_core.model import shares as processes
from ibllm_core.model.cycle import Cycle
from ibllm_core.model.shares import Ranks, Shares

_spec = importlib.util.spec_from_file_location("presets", Path(__file__).with_name("test_loss.py"))
assert _spec is not None and _spec.loader is not None
_presets = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_presets)
SUITES = {name.removeprefix("Test_"): cls for name, cls in vars(_presets).items() if name.startswith("Test")}

for _suite in SUITES.values():
    _suite.image_shape = (3, 16, 16)

ITEMS = 5


class Threads:
    """`torch.distributed` among threads, of which one runs at a time: from one meeting to the next."""

    def __init__(self, count: int) -> None:
        self.count, self.slots = count, [torch.empty(0)] * count
        self.barrier, self.running, self.local = threading.Barrier(count, timeout=60), threading.Lock(), threading.local()

    def _meet(self, sent: Tensor | None) -> list[Tensor]:
        if sent is not None:
            self.slots[self.local.rank] = sent.clone()
        self.running.release()
        try:
            self.barrier.wait()
        finally:
            self.running.acquire()
        found = list(self.slots)
        self.running.release()
        try:
            self.barrier.wait()
        finally:
            self.running.acquire()
        return found

    def all_reduce(self, tensor: Tensor) -> None:
        tensor.copy_(torch.stack(self._meet(tensor)).sum(0))

    def all_gather(self, found: Sequence[Tensor], tensor: Tensor) -> None:
        for mine, theirs in zip(found, self._meet(tensor), strict=True):
            mine.copy_(theirs)

    def run(self, compute: Callable[[Ranks], Any]) -> list[Any]:
        """What `compute` gives in each rank."""
        results: list[Any] = [None] * self.count

        def work(rank: int) -> None:
            self.local.rank = rank
            with self.running:
                try:
                    results[rank] = compute(Ranks(rank, self.count))
                except BaseException as error:
                    results[rank] = error
                    self.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failed = [result for result in results if isinstance(result, BaseException)]
        for error in sorted(failed, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return results


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> Threads:
    threads = Threads(2)
    monkeypatch.setattr(processes, "dist", threads)
    return threads


def shared(m: Inputs, ranks: int, micro: int) -> list[list[Inputs]]:
    """Rank → its micro-batches, as the feeder cuts them."""
    rows = np.array_split(np.arange(ITEMS), ranks * micro)
    return [[m.take(*some.tolist()) for some in rows[rank * micro : (rank + 1) * micro]] for rank in range(ranks)]


def made(suite: LossSuite, dtype: torch.dtype, dropout: float = 0.0) -> tuple[Any, Any, Inputs]:
    """The loss, a model whose encoders drop numbers of their latents, and a batch."""
    m = attrs.evolve(fabricate(suite.context(), ITEMS), numbers=np.arange(ITEMS))
    loss, model = suite.make().to(dtype), suite.model(torch.device("cpu")).to(dtype)
    drop = Dropout(dropout)
    for encoder in ("text_encoder", "image_encoder"):
        model.part(encoder).register_forward_hook(lambda _part, _given, z: Latent(drop(z.tokens), z.mask, drop(z.pooled)))
    return loss, model, attrs.evolve(m, y=m.y.to(dtype))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", SUITES)
def test_gradients_are_those_of_the_whole_batch(name: str, dropout: float, two_ranks: Threads) -> None:
    """To 1e-5 in float32: in 1, 3 and as many micro-batches as there are items, and in two ranks of two micro-batches each, of unequal shares."""
    suite = SUITES[name]()
    loss, model, m = made(suite, torch.float32, dropout)
    wanted = suite.played(loss, model, [m])
    others = {f"{micro} micro-batches": suite.played(loss, model, shared(m, 1, micro)[0]) for micro in (3, ITEMS)}

    def play(ranks: Ranks) -> dict[str, Tensor]:
        loss, model, m = made(suite, torch.float32, dropout)
        return suite.played(loss, model, shared(m, 2, 2)[ranks.rank], ranks, ITEMS)

    others |= {f"rank {rank} of 2": found for rank, found in enumerate(two_ranks.run(play))}
    for how, found in others.items():
        for what, value in wanted.items():
            off = float((found[what] - value).abs().max())
            assert off <= 1e-5 * max(1.0, float(value.abs().max())), f"{how}: {what} is off by {off:.2g}"
    assert any(value.any() for what, value in wanted.items() if "gradient" in what)


def test_weights_after_20_steps_are_those_of_the_whole_batch(two_ranks: Threads) -> None:
    """To 1e-9 in float64, every loss in turn, in micro-batches of one item and in two ranks."""
    # What one model can play: not those that ask for parts of their own.
    names = [name for name, suite in SUITES.items() if "caption_likelihood" not in str(suite()._needs()) and suite.model is LossSuite.model]

    def train(ranks: Ranks, micro: int) -> dict[str, Tensor]:
        first = SUITES[names[0]]()
        _, model, m = made(first, torch.float64)
        losses = {name: SUITES[name]().make().double() for name in names}
        mine = shared(m, ranks.count, micro)[ranks.rank]
        for step in range(20):
            for name in names[step::20]:
                loss = losses[name]
                gradients = SUITES[name]().played(loss, model, mine, ranks, ITEMS)
                with torch.no_grad():
                    for what, gradient in gradients.items():
                        if " gradient of " in what:
                            where = what.partition(" gradient of ")[2]
                            of, path = (loss, where.removeprefix("losses.")) if where.startswith("losses.") else (model, where)
                            of.get_parameter(path).sub_(gradient / gradient.norm().clamp(min=1), alpha=0.05)
        parameters = {f"{name}: {n}": p.detach() for name, loss in losses.items() for n, p in loss.named_parameters()}
        return {**dict(model.named_parameters()), **parameters}

    wanted = train(Ranks(), 1)
    for found in (train(Ranks(), ITEMS), *two_ranks.run(lambda ranks: train(ranks, 1))):
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


class Telling(WholeBatchLoss):
    """Logs what it represents and what it compares."""

    def represent(self, cycle: Cycle) -> Tensor:
        cycle.log("items", cycle.text_nll.mean())
        return cycle.text_nll

    def compare(self, together: Tensor, rng: Rng) -> Tensor:
        log("largest", together.max())
        return together.logsumexp(0)


def test_what_a_comparison_logs_is_logged_once_for_each_share() -> None:
    suite = SUITES["text_nll"]()
    _, model, m = made(suite, torch.float32)
    shares = Shares(model, [some.batch() for some in shared(m, 1, 2)[0]], {"telling": Telling()})
    largest = model.part("text_decoder")(m.x, model.part("image_encoder")(m.y)).max()  # type: ignore[operator]
    for cycle in shares.cycles():
        cycle.value("telling")
        logged = cycle.take_logged()
        torch.testing.assert_close(logged["loss/telling/largest"], largest.detach())
        torch.testing.assert_close(logged["loss/telling/items"], cycle.text_nll.detach().mean())
