"""What parts draw in training is keyed by sample: it depends neither on who shares a batch nor on torch's, numpy's or Python's own generators."""

from __future__ import annotations

import random
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_testing import DiscriminatorSuite, ImageDecoderSuite, ImageEncoderSuite, ImageTokenizerSuite, TextDecoderSuite, TextEncoderSuite
from ibllm_testing.checks import same
from ibllm_testing.parts import PartSuite

from ibllm.plugin import Dropout, Rng, Stream, word_dropout
from ibllm_core.host.manager import manager
from ibllm_core.interfaces.noise import drawing_from, seeded

SUITES: dict[str, type[PartSuite]] = {
    suite.kind: suite
    for suite in (TextEncoderSuite, ImageDecoderSuite, ImageEncoderSuite, TextDecoderSuite, DiscriminatorSuite, ImageTokenizerSuite)
}
#: A model from files, whose dropout is a library's: tests/conformance has one.
LIBRARY = {"pretrained"}
#: What makes a part quicker than its defaults do.
SMALL: dict[str, Any] = {"depth": 1, "layers": 2, "blocks": 1}


def parts() -> list[tuple[str, str]]:
    return [
        (row.kind, row.name) for row in manager().rows() if row.kind in SUITES and row.distribution == "ibllm" and row.name not in LIBRARY
    ]


def suite_of(kind: str, name: str) -> PartSuite:
    """A component with every dropout that it has."""
    fields = attrs.fields_dict(manager().config_class(kind, name))
    options = {key: 0.4 for key in ("dropout", "word_dropout") if key in fields}
    options |= {key: value for key, value in SMALL.items() if key in fields and isinstance(fields[key].default, int)}
    lent = (
        {"lm": {"use": "unified", "depth": 1, "heads": 2}} if "backbone" in fields and fields["backbone"].default is attrs.NOTHING else {}
    )
    options |= {"backbone": "lm"} if lent else {}
    if "graph" in fields:
        lent = {"words": {"kind": "text_encoder", "use": "bag"}, "facts": {"use": "graph", "width": 8, "neighbours": 2}}
        options |= {"reads": "words", "graph": "facts"}
    made: PartSuite = type("Made", (SUITES[kind],), {"component": name, "options": options, "shared": lent})()
    return made


def dropping(kind: str, name: str) -> bool:
    return bool({"dropout", "word_dropout"} & set(suite_of(kind, name).options))


@pytest.mark.parametrize(("kind", "name"), parts())
def test_a_pass_in_training_draws_from_no_global_generator(kind: str, name: str) -> None:
    suite = suite_of(kind, name)
    context = suite.context()
    part, m = suite.make(context).train(), suite.fabricate(context)
    before = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()
    with drawing_from(m.rng("pass")) as drew:
        suite.objective(part, m).backward()  # type: ignore[no-untyped-call]
        assert not drew(), f"{kind}.{name} draws from torch's global generator"
    assert (random.getstate(), repr(np.random.get_state())) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize(("kind", "name"), [found for found in parts() if dropping(*found)])
def test_dropout_is_the_same_whoever_shares_the_batch(kind: str, name: str) -> None:
    suite = suite_of(kind, name)
    context = suite.context()
    part, m = suite.make(context).train(), suite.fabricate(context)

    def passes(some: Any, purpose: str = "pass") -> dict[str, torch.Tensor]:
        with torch.no_grad(), drawing_from(some.rng(purpose)):
            return suite.passes(part, some)

    whole = passes(m)
    shares = [passes(m.take(0)), passes(m.take(1, 2))]
    same({key: torch.cat([share[key] for share in shares]) for key in whole}, whole, f"{kind}.{name}: shares must not matter", atol=1e-5)
    same(passes(m), whole, f"{kind}.{name}: a pass that is made again is the same", 0, 0)
    wide = {key: tensor[tuple(map(slice, whole[key].shape))] for key, tensor in passes(m.padded(10)).items()}
    same(wide, whole, f"{kind}.{name}: longer texts of others must not matter", atol=1e-5)
    other = passes(m, "another step")
    assert any(not torch.equal(other[key], whole[key]) for key in whole), "nothing is dropped"


def test_numbers_on_a_device_are_those_of_streams() -> None:
    samples = [0, 5, 2**40]
    for _ in range(2):
        rng, stream = Rng((3, "draw"), samples), Stream((3, "draw"), samples)
        for _ in range(2):
            assert np.array_equal(rng.integers(1000, 7).numpy(), stream.integers(1000, 7))
            np.testing.assert_allclose(rng.normal(3, 5).numpy(), stream.normal(3, 5), rtol=1e-6, atol=1e-7)
            assert np.array_equal(rng.uniform(4).numpy(), (stream.bits(4) >> np.uint64(40)) * np.float64(2.0**-24))
    folded = Rng((3,), samples).fold("draw").uniform(4)
    assert torch.equal(folded, Rng((3, "draw"), samples).uniform(4))


def test_dropout_keeps_the_mean_and_drops_as_often_as_it_says() -> None:
    """10⁶ numbers, p = 0.3: the standard error of the fraction is 0.0005."""
    layer, x = Dropout(0.3), torch.ones(8, 125, 1000)
    with drawing_from(Rng((1,), range(8))):
        first, second = layer(x), layer(x)
    for found in (first, second):
        assert float((found == 0).float().mean()) == pytest.approx(0.3, abs=0.003)
        assert float(found.max()) == pytest.approx(1 / 0.7)
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    # Independent of each other: both are dropped as often as chance has it.
    assert float(((first == 0) & (second == 0)).float().mean()) == pytest.approx(0.09, abs=0.003)
    assert layer.eval()(x) is x


def test_a_batch_with_several_rows_a_sample_has_other_numbers_in_each() -> None:
    """As where a loss puts two versions of every text into one batch."""
    with drawing_from(Rng((1,), range(4))):
        dropped = Dropout(0.5)(torch.ones(8, 100))
    assert not torch.equal(dropped[:4], dropped[4:])


def test_outside_a_cycle_dropout_follows_the_seed_of_torch() -> None:
    ids = torch.full((4, 30), 7)
    found = []
    for seed in (3, 3, 4):
        with seeded(seed):
            found.append(word_dropout(ids, 0.5))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
