"""What a study decides by: the comparisons of its primary figures that are corrected for together. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from .findings import Findings, FoundArm
from .looks import Look, look_through
from .rules import paired
from .statistics import Comparison, compare, holm
from .statistics.equivalence import BETTER, NOT_TOLD, NOT_WORSE, SAME, WORSE, Equivalence, answer, equivalences
from .statistics.factorial import Effect
from .statistics.nested import nest
from .statistics.sequential import nominal_levels

#: Figure → a comparison of it whose intervals stay where the figure can be.
Bound = Callable[[str, Comparison], Comparison]


#: An interaction is neither good nor bad, and there is no side on which it would be worse.
_SIGNS = {BETTER: "positive", WORSE: "negative", NOT_WORSE: NOT_TOLD, SAME: "none beyond the margin"}


@attrs.frozen(kw_only=True)
class Claim:
    """One comparison of a primary figure, corrected over all of them.

    Attributes:
        label: what is compared: an arm with the control; two arms; or an effect of a factorial design.
        arms: the control and the other arm; none for an effect.
        by_seed: common seed → what it gives; the comparison's difference is their mean.
        effect: in a factorial design, which one.
        means: in a factorial design, the mean over seeds where the effect's product of levels is −1, and where it is +1.
        higher_is_better: of the figure.
        equivalence: the tests against the margin, where there is one.
        look: in a sequential study, the look it was decided at, or the last one so far.
    """

    label: str
    figure: str
    comparison: Comparison
    arms: tuple[str, str] | None = None
    by_seed: Mapping[int, float]
    effect: Effect | None = None
    means: tuple[float | None, float | None] = (None, None)
    higher_is_better: bool = True
    equivalence: Equivalence | None = None
    look: Look | None = None

    @property
    def answer(self) -> str:
        """In words, what may be said with the margin; empty where there is none."""
        if self.equivalence is None:
            return ""
        if self.effect is not None and len(self.effect.factors) > 1:
            said = answer(self.comparison, self.equivalence, higher_is_better=True)
            return next((f"{sign}{said[len(word) :]}" for word, sign in _SIGNS.items() if said.startswith(word)), said)
        return answer(self.comparison, self.equivalence, higher_is_better=self.higher_is_better)


def make_claims(findings: Findings, bounded: Bound) -> tuple[Claim, ...]:
    """All claims of a study, Holm-corrected together; without any p-value where the arms are points of a search."""
    rules = findings.rules
    if findings.searched:
        claims = [_untested(claim) for claim in raw_claims(findings)]
    elif rules.looks:
        claims = _sequential(findings)
    else:
        claims = list(raw_claims(findings))
        corrected = holm([claim.comparison for claim in claims])
        claims = [attrs.evolve(claim, comparison=found) for claim, found in zip(claims, corrected, strict=True)]
    if rules.margin is not None and not findings.searched:
        tests = equivalences([claim.comparison for claim in claims], rules.margin, [claim.higher_is_better for claim in claims])
        claims = [attrs.evolve(claim, comparison=found, equivalence=test) for claim, (found, test) in zip(claims, tests, strict=True)]
    return tuple(attrs.evolve(claim, comparison=bounded(claim.figure, claim.comparison)) for claim in claims)


def _untested(claim: Claim) -> Claim:
    return attrs.evolve(claim, comparison=attrs.evolve(claim.comparison, p_t=None, p_permutation=None, note=""))


def raw_claims(findings: Findings, seeds: Sequence[int] | None = None) -> Iterable[Claim]:
    """The claims before any correction, of all seeds or of some."""
    for figure in findings.primaries:
        found = effects(findings, figure, seeds) if findings.factorial is not None else _arms(findings, figure, seeds)
        for claim in found:
            draw = findings.rules.draw
            nested = nest(claim.comparison, claim.by_seed, draw) if draw else claim.comparison
            yield attrs.evolve(claim, comparison=nested, higher_is_better=findings.direction(figure) == "max")


def _values(arm: FoundArm, figure: str, seeds: Sequence[int] | None) -> dict[int, float | None]:
    return {seed: value for seed, value in arm.values(figure).items() if seeds is None or seed in seeds}


def _arms(findings: Findings, figure: str, seeds: Sequence[int] | None) -> Iterable[Claim]:
    """Every arm against the control, or all pairs."""
    arms = {arm.name: arm for arm in findings.arms}
    for label, control, name in paired(list(arms), findings.rules.against):
        base, other = (_values(arms[arm], figure, seeds) for arm in (control, name))
        found = compare(base, other, findings.confidence, higher_is_better=findings.direction(figure) == "max")
        by_seed = {seed: (other[seed] or 0.0) - (base[seed] or 0.0) for seed in found.seeds}
        yield Claim(label=label, figure=figure, comparison=found, arms=(control, name), by_seed=by_seed)


def cell_values(
    findings: Findings, figure: str, seeds: Sequence[int] | None = None
) -> Mapping[tuple[bool, ...], Mapping[int, float | None]]:
    """Cell of a factorial design → seed → the figure."""
    assert findings.factorial is not None
    return {tuple(name in arm.high for name in findings.factorial.factors): _values(arm, figure, seeds) for arm in findings.arms}


def effects(findings: Findings, figure: str, seeds: Sequence[int] | None = None) -> Iterable[Claim]:
    """Every effect that was asked for, uncorrected."""
    design = findings.factorial
    assert design is not None
    values = cell_values(findings, figure, seeds)
    for effect in design.effects:
        found = design.contrast(effect, values, findings.confidence)
        yield Claim(label=effect.name, figure=figure, comparison=found.comparison, by_seed=found.by_seed, effect=effect, means=found.means)


def _sequential(findings: Findings) -> list[Claim]:
    """The claims at the look at which each was decided, or at the last look so far, with intervals that hold at all looks at once.

    These are repeated confidence intervals (Jennison & Turnbull 2000, §9): t-intervals at the look's nominal level, of the level divided by the claims.
    """
    rules = findings.rules
    looks = look_through(findings)
    claims = []
    for number, first in enumerate(raw_claims(findings)):
        look = looks[number]
        if look is None:
            claims.append(_untested(first))
            continue
        claim = next(c for n, c in enumerate(raw_claims(findings, findings.seeds[: look.seeds])) if n == number)
        c, levels = claim.comparison, nominal_levels(rules.looks, findings.level / len(looks), rules.spending)
        c = attrs.evolve(c, p_permutation=None, family=len(looks), p_t_holm=None, note="" if c.sd else c.note)
        if c.difference is not None and c.error:
            from scipy import special

            half = -float(special.stdtrit(c.freedom, levels[look.number] / 2)) * c.error
            c = attrs.evolve(c, low_all=c.difference - half, high_all=c.difference + half)
        claims.append(attrs.evolve(claim, comparison=c, look=look))
    return claims
