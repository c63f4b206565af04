"""Attacks: what they find, where it lies, and that they find it whatever stands beside it."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from ibllm_robust import attacks, config, objectives
from torch import Tensor

from ibllm.plugin import Context, Cycle, Model, Rng, UserError

OPTIONS: dict[str, dict[str, Any]] = {
    "Noise": {},
    "FGSM": {},
    "PGD": {"steps": 5, "restarts": 2},
    "APGD": {"steps": 8, "restarts": 2},
    "Square": {"queries": 40},
}
#: Of those that can measure in both norms, each with each; and the square attack.
EVERY = [(name, norm) for name in OPTIONS for norm in ("linf", "l2") if (name, norm) != ("Square", "l2")]


def attack(name: str, epsilon: float = 0.1, **options: Any) -> Any:
    made = getattr(config, f"{name}Config")(epsilon=epsilon, **OPTIONS.get(name, {}) | options)
    return getattr(attacks, name)(made, Context())


def linear(weights: Tensor) -> objectives.Objective:
    return lambda x: (x * weights).flatten(1).sum(1)


def bumpy(x: Tensor) -> Tensor:
    """(b), with many hills."""
    return (5 * x).sin().flatten(1).sum(1) + x.square().flatten(1).sum(1)


def images(items: int = 6, seed: int = 0) -> tuple[Tensor, Rng]:
    """(b 3 8 8) in [0, 1], a tenth of the numbers at either end; and the items' generator."""
    x = torch.rand(items, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1
    return x.clamp(0, 1), Rng((seed, "attack"), np.arange(items))


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("name", ["FGSM", "PGD", "APGD"])
def test_what_is_worst_for_a_linear_model_is_found(name: str, norm: str, dual: int) -> None:
    """Within a ball that no range cuts, w·x grows by at most ε‖w‖ of the dual norm (Hölder), in both norms at one point."""
    x, rng = images()
    x, weights = x * 0.2 + 0.4, torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    steps = {} if name == "FGSM" else {"steps": 30}
    found = attack(name, 0.1, norm=norm, **steps).perturb(linear(weights), x, rng)
    grown = linear(weights)(found) - linear(weights)(x)
    best = 0.1 * weights.flatten().norm(p=dual)
    torch.testing.assert_close(grown, best.expand(6), rtol=1e-4 if name == "FGSM" else 0.02, atol=0)


def test_the_worst_of_a_range_that_cuts_the_ball_is_found() -> None:
    """With L∞ each number goes as far as ball and range let it: clamp(x + ε sign w) (closed form)."""
    x, rng = images()
    weights = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    wanted = (x + 0.1 * weights.sign()).clamp(0, 1)
    for name in ("FGSM", "PGD", "APGD"):
        torch.testing.assert_close(attack(name).perturb(linear(weights), x, rng), wanted, rtol=0, atol=1e-6)


def test_square_attack_comes_near_the_worst_of_a_linear_model() -> None:
    """Of weights alike over large places squares find most of ε‖w‖₁, and never more."""
    x, rng = images()
    x, weights = x * 0.2 + 0.4, torch.tensor([1.0, -2.0, 0.5])[:, None, None].expand(3, 8, 8)
    found = attack("Square", queries=1000).perturb(linear(weights), x, rng)
    part = (linear(weights)(found) - linear(weights)(x)) / (0.1 * weights.abs().sum())
    assert bool((part > 0.9).all()) and bool((part <= 1).all())


@pytest.mark.parametrize(("name", "norm"), EVERY)
@pytest.mark.parametrize("epsilon", [8 / 255, 0.3])
def test_what_is_found_is_in_ball_and_range_exactly(name: str, norm: str, epsilon: float) -> None:
    """Measured with more digits than it was computed in, for images and for numbers without a range."""
    x, rng = images()
    for given, low, high, unit in ((x, 0.0, 1.0, 1.0), (2 * x - 1, -1.0, 1.0, 2.0), (100 * x, -math.inf, math.inf, 1.0)):
        found = attack(name, epsilon, norm=norm).perturb(bumpy, given, rng, low, high)
        change = (found.double() - given.double()).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert bool((size <= epsilon * unit).all()) and bool((size > 0.2 * epsilon * unit).all())
        assert float(found.min()) >= low and float(found.max()) <= high


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_without_a_radius_nothing_changes(name: str, norm: str) -> None:
    x, rng = images()
    assert torch.equal(attack(name, 0.0, norm=norm).perturb(bumpy, x, rng), x)


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_what_is_found_does_not_depend_on_the_batch(name: str, norm: str) -> None:
    x, rng = images()
    made = attack(name, norm=norm)
    whole = made.perturb(bumpy, x, rng)
    pieces = [made.perturb(bumpy, x[rows], Rng((0, "attack"), np.arange(6)[rows])) for rows in (slice(0, 1), slice(1, 6))]
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-5)
    assert not torch.equal(made.perturb(bumpy, x, Rng((1, "attack"), np.arange(6))), whole) or name == "FGSM", "another seed, another place"


def test_a_universal_change_is_one_for_all_and_does_not_depend_on_the_pieces() -> None:
    x, rng = images()
    weights = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    made = attack("Universal", steps=10)
    objective = [lambda y, w=weights[rows]: (y * w).flatten(1).sum(1) for rows in (slice(0, 6), slice(0, 2), slice(2, 6))]
    together, found = made.fit([(objective[0], x)]), made.perturb(objective[0], x, rng)
    torch.testing.assert_close(made.fit([(objective[1], x[:2]), (objective[2], x[2:])]), together, rtol=0, atol=1e-6)
    torch.testing.assert_close(found, (x + together).clamp(0, 1))
    assert float(together.abs().max()) <= 0.1
    free = made.fit([(objective[0], x)], -math.inf, math.inf)
    torch.testing.assert_close(free, 0.1 * weights.sum(0).sign(), rtol=0, atol=1e-5)


def test_apgd_looks_back_where_the_authors_do() -> None:
    """p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 (Croce and Hein 2020, section 3.1), rounded up."""
    assert attacks.checkpoints(100) == {22, 41, 57, 70, 80, 87, 93, 99}
    assert attacks.checkpoints(20) == {5, 9, 12, 14, 16, 18, 19}


def test_what_has_no_gradient_is_refused_by_attacks_that_follow_one() -> None:
    x, rng = images()
    with pytest.raises(UserError, match="expected an attack that asks for none"):
        attack("PGD").perturb(lambda y: (y > 0.5).float().flatten(1).sum(1), x, rng)
    attack("Square").perturb(lambda y: (y > 0.5).float().flatten(1).sum(1), x, rng)


# Of a model that has learned a little.


def damage(cycle: Cycle, made: Any, **how: Any) -> Tensor:
    """(b) what is lost of what is attacked."""
    aim = objectives.aimed(cycle, **{"of": "image", "against": "captioning"} | how)
    found = made.perturb(aim.objective, aim.x, aim.rng, aim.low, aim.high, free=aim.free)
    with torch.no_grad():
        return aim.objective(found) - aim.objective(aim.x)


def test_the_stronger_an_attack_the_worse_and_no_gradient_is_masked(learned: tuple[Model, Cycle]) -> None:
    """APGD ≥ PGD ≥ FGSM ≥ noise, on average of the items; the square attack, which needs no gradient, finds nothing worse (Athalye et al. 2018)."""
    _, cycle = learned
    epsilon = 4 / 255
    names = {"Noise": {}, "FGSM": {}, "PGD": {"steps": 10, "restarts": 1}, "APGD": {"steps": 20, "restarts": 1}, "Square": {"queries": 60}}
    found = {name: float(damage(cycle, attack(name, epsilon, **options)).mean()) for name, options in names.items()}
    assert found["APGD"] >= 0.98 * found["PGD"] and found["PGD"] > 1.05 * found["FGSM"] > 2 * abs(found["Noise"]), found
    assert 0 < found["Square"] < found["APGD"], found
    assert float(damage(cycle, attack("PGD", 0.0)).abs().max()) == 0


def test_words_are_attacked_and_nothing_but_words(learned: tuple[Model, Cycle]) -> None:
    """The drawing of a caption becomes worse, while beginning, end and padding keep their embeddings; by the captioner's reading of it, too."""
    _, cycle = learned
    aim = objectives.aimed(cycle, "text", "drawing")
    found = attack("PGD", 0.5, steps=10).perturb(aim.objective, aim.x, aim.rng, aim.low, aim.high, free=aim.free)
    batch = aim.written(found)
    assert batch.x_shift is not None and batch.x is not None
    special = (batch.x.ids <= 2) | ~batch.x.mask
    assert bool((batch.x_shift[special] == 0).all()) and bool((batch.x_shift[~special].abs().sum(-1) > 0).all())
    assert float((cycle.of(batch).image_nll - cycle.image_nll).mean().detach()) > 0
    torch.testing.assert_close(cycle.of(batch).image_nll, aim.objective(found))
    for against in ("cycle", "latent"):
        made = attack("PGD", 0.5, steps=5)
        assert float(damage(cycle, made, of="text", against=against).mean()) > 0.05, against


def test_a_target_is_approached(learned: tuple[Model, Cycle]) -> None:
    """Images are made to be read as another item's caption."""
    _, cycle = learned
    other = attrs.evolve(cycle.x_out, ids=cycle.x_out.ids.roll(1, 0), mask=cycle.x_out.mask.roll(1, 0))
    clean = objectives.captioning(cycle, other)(cycle.y)
    gained = damage(cycle, attack("PGD", 16 / 255, steps=10), target=other)
    assert float((gained / -clean).mean()) > 0.3, "a third of what it takes"


def test_the_margin_is_the_difference_of_logits_ratio() -> None:
    """Equation 5 of Croce and Hein 2020, place by place with numpy; the largest of a text's places counts."""
    random = torch.Generator().manual_seed(0)
    logits, ids = torch.randn(4, 5, 7, generator=random), torch.randint(0, 7, (4, 6), generator=random)
    mask = torch.arange(6) < torch.tensor([6, 4, 3, 2])[:, None]
    found = objectives.margin(logits, objectives.Tokens(ids, mask))
    for row in range(4):
        places = []
        for place in range(5):
            if mask[row, place + 1]:
                z, y = logits[row, place].numpy(), int(ids[row, place + 1])
                ordered = np.sort(z)[::-1]
                places.append(-(z[y] - np.max(np.delete(z, y))) / (ordered[0] - ordered[2]))
        assert float(found[row]) == pytest.approx(max(places), rel=1e-5)


def test_a_margin_below_nought_is_a_caption_that_is_read_right(learned: tuple[Model, Cycle]) -> None:
    """Word by word given the words before."""
    model, cycle = learned
    margin = objectives.captioning(cycle, loss="dlr")(cycle.y)
    ids, mask = cycle.x_out.ids, cycle.x_out.mask
    likeliest = model.part("text_decoder").logits(ids[:, :-1], mask[:, :-1], cycle.z_y).argmax(-1)
    right = ((likeliest == ids[:, 1:]) | ~mask[:, 1:]).all(1)
    assert torch.equal(right, margin < 0) and bool(right.any()) and not bool(right.all())


def test_an_encoder_with_a_pass_of_its_own_has_no_embeddings_to_perturb(learned: tuple[Model, Cycle]) -> None:
    model, cycle = learned
    encoder = model.part("text_encoder")
    held = type(encoder)

    class Own(held):  # type: ignore[valid-type, misc]
        def forward(self, tokens: Any) -> Any:
            return super().forward(tokens)

    encoder.__class__ = Own
    try:
        with pytest.raises(UserError, match=r"has a forward pass of its own.*expected of = "):
            objectives.embedded(cycle)
    finally:
        encoder.__class__ = held


def test_a_share_is_spread_evenly_whatever_holds_it() -> None:
    for share in (0.0, 0.1, 0.25, 0.5, 2 / 3, 1.0):
        whole = objectives.rows_of(np.arange(32), share)
        assert len(whole) == int(32 * share + 1e-9)
        pieces = [[row + start for row in objectives.rows_of(np.arange(start, end), share)] for start, end in ((0, 5), (5, 17), (17, 32))]
        assert [row for piece in pieces for row in piece] == whole
