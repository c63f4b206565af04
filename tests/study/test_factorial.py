"""Two-level designs: the fractions that a library finds, and the effects that an analysis of variance finds."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pyDOE3
import pytest
from ibllm_study.plan import make_plan
from ibllm_study.preview import crossed
from ibllm_study.statistics.factorial import Design, make_design
from ibllm_study.study_file import read_study
from statsmodels.formula.api import ols

from ibllm_core.errors import UserError

LETTERS = "abcdefgh"


@pytest.mark.parametrize(("k", "p"), [(3, 1), (4, 1), (5, 1), (5, 2), (6, 2), (6, 3), (7, 3)])
def test_a_fraction_confounds_as_little_as_the_best_one_of_a_library(k: int, p: int):
    """The number of words of each length, for pyDOE3's optimal generators and for ours."""
    found = make_design(list(LETTERS[:k]), p, order=2)
    assert len(found.cells) == 2 ** (k - p)
    assert found.cells[0] == (False,) * k, "the base is a cell"
    generators, aliases, _ = pyDOE3.fracfact_opt(k, p)
    names = list(generators.split())
    theirs = set.union(*(_words(alias) for alias in aliases)) if aliases else set()
    shortest = min(len(word) for word in theirs)
    lengths = sorted(map(len, found.words))
    assert lengths[0] == found.resolution == shortest, names
    assert lengths == sorted(map(len, theirs))


def _words(alias: str) -> set[frozenset[str]]:
    """The defining words that a library's line of aliases implies: the product of each two of them."""
    members = [frozenset(member) for member in alias.split(" = ")]
    return {one ^ other for one, other in itertools.combinations(members, 2)}


def test_aliases_have_the_same_contrast_up_to_their_sign():
    for k, p in [(4, 1), (5, 2), (6, 3)]:
        design = make_design(list(LETTERS[:k]), p, order=2)
        for effect in design.effects:
            own = [design.sign(effect, cell) for cell in design.cells]
            assert sum(own) == 0, "as many cells on either side"
            for factors, sign in effect.aliases:
                other = [np.prod([1 if design.levels(cell)[name] else -1 for name in factors]) for cell in design.cells]
                assert [sign * value for value in other] == own
        contrasts = {tuple(design.sign(effect, cell) for cell in design.cells) for effect in design.effects}
        assert len(contrasts) == len(design.effects), "each class of aliases once"


def test_an_effect_is_told_under_the_name_that_was_asked_for():
    for k, p in [(4, 1), (5, 2)]:
        design = make_design(list(LETTERS[:k]), p, order=2)
        for factors in itertools.combinations(LETTERS[:k], 2):
            if (effect := design.effect(factors)) is None:
                continue  # a word of the fraction
            assert effect.factors == factors
            own = [design.sign(effect, cell) for cell in design.cells]
            for other, sign in effect.aliases:
                assert [sign * np.prod([1 if design.levels(cell)[name] else -1 for name in other]) for cell in design.cells] == own


def test_a_fraction_that_confounds_main_effects_is_refused():
    with pytest.raises(ValueError, match="expected fraction <= 1"):
        make_design(["a", "b", "c", "d"], 2)


def simulated(design: Design, seeds: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """Cell → seed → value: what a seed adds to all its cells, two effects, noise."""
    luck = rng.normal(size=seeds)
    signs = np.array([[1 if high else -1 for high in cell] for cell in design.cells])
    truth = 1.5 * signs[:, 0] + 0.75 * signs[:, 0] * signs[:, 1]
    values = 10 + truth[:, None] + luck + rng.normal(size=(len(signs), seeds))
    return {cell: dict(enumerate(row.tolist())) for cell, row in zip(design.cells, values, strict=True)}


def test_effects_are_those_of_an_analysis_of_variance_with_seeds_as_blocks():
    """The estimates of least squares (half the effect each, as levels are −1 and +1), and for one effect in two blocks of cells its own error."""
    design = make_design(["a", "b", "c"], order=3)
    values = simulated(design, 6, np.random.default_rng(0))
    table = pd.DataFrame(
        [
            {**{name: 1 if high else -1 for name, high in design.levels(cell).items()}, "seed": seed, "y": value}
            for cell, own in values.items()
            for seed, value in own.items()
        ]
    )
    fitted = ols("y ~ a * b * c + C(seed)", table).fit()
    for effect in design.effects:
        found = design.contrast(effect, values)
        assert found.comparison.difference == pytest.approx(2 * fitted.params[":".join(effect.factors)], rel=1e-9)
        assert found.means[1] - found.means[0] == pytest.approx(found.comparison.difference)
        assert np.mean(list(found.by_seed.values())) == pytest.approx(found.comparison.difference)
    # With one factor there is one contrast a block, and the analysis of variance has the same error and degrees of freedom.
    single = Design(factors=("a",), cells=((False,), (True,)), words=(), effects=(design.effects[0],))
    two = {(False,): values[False, False, False], (True,): values[True, False, False]}
    rows = table[(table.b == -1) & (table.c == -1)]
    assert single.contrast(design.effects[0], two).comparison.p_t == pytest.approx(
        ols("y ~ a + C(seed)", rows).fit().pvalues["a"], rel=1e-9
    )


def test_a_seed_without_a_cell_is_left_out_and_named():
    design = make_design(["a", "b"])
    values = simulated(design, 4, np.random.default_rng(1))
    values[True, True][2] = None
    found = design.contrast(design.effects[0], values).comparison
    assert found.seeds == (0, 1, 3)
    assert found.missing_other == (2,)


FACTORS = """
design = "factorial"
[factors]
"no cycle" = { "losses.cycle" = false }
"long" = { "stages.joint.steps" = 12 }
"wide" = { "model.width" = 32 }
"""


def test_the_cells_of_a_study_are_the_base_with_factors_changes(write_study):
    plan = make_plan(read_study(write_study(FACTORS)))
    assert [arm.name for arm in plan.arms] == [
        "base", "no cycle", "long", "wide", "no cycle, long", "no cycle, wide", "long, wide", "no cycle, long, wide",
    ]  # fmt: skip
    recipe = plan.cell("long, wide", 1).recipe
    assert (recipe.stages["joint"].steps, recipe.width, "cycle" in recipe.losses) == (12, 32, True)
    half = make_plan(read_study(write_study(FACTORS + "[factorial]\nfraction = 1", name="half")))
    assert [arm.name for arm in half.arms] == ["base", "no cycle, long", "no cycle, wide", "long, wide"]
    said = crossed(half)
    assert "3 factors, 4 of 8 cells, resolution 3" in said[0]
    assert said[1:] == ["  no cycle − long × wide", "  long − no cycle × wide", "  wide − no cycle × long"]


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ('design = "factorial"\n[factors]\n"a" = { "model.width" = 32 }', "1 factors"),
        (FACTORS + '[variants]\n"x" = { "model.width" = 8 }', "a factorial design has factors only"),
        (FACTORS.replace('"model.width" = 32', '"losses.cycle" = { use = "cycle" }'), '"losses.cycle" is changed by \'no cycle\', too'),
        (FACTORS + "[factorial]\nfraction = 2", "expected fraction <= 1"),
        (FACTORS + '[factorial]\neffects = [["wiede"]]', "wide"),
        (FACTORS + '[factorial]\nfraction = 1\neffects = [["wide"], ["no cycle", "long"]]', "cannot be told from it"),
        (FACTORS + '[factorial]\nfraction = 1\neffects = [["wide", "long", "no cycle"]]', "do not show this effect"),
        ('[factors]\n"a" = { "model.width" = 32 }', "is read by a factorial design only"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_factors_is_said(write_study, rest: str, says: str):
    with pytest.raises(UserError) as found:
        read_study(write_study(rest))
    assert says in str(found.value)
