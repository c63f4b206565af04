"""What a study decides by: the comparisons of its primary figure that are corrected for together. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from .findings import Findings, FoundArm
from .statistics import Comparison, compare, holm
from .statistics.factorial import Effect

#: Figure → a comparison of it whose intervals stay where the figure can be.
Bound = Callable[[str, Comparison], Comparison]


@attrs.frozen(kw_only=True)
class Claim:
    """One comparison of a primary figure, corrected over all of them.

    Attributes:
        label: what is compared with the base: an arm; or an effect of a factorial design.
        by_seed: what each common seed gives; the comparison's difference is their mean.
        effect: in a factorial design, which one.
        means: in a factorial design, the mean over seeds where the effect's product of levels is −1, and where it is +1.
    """

    label: str
    figure: str
    comparison: Comparison
    by_seed: tuple[float, ...]
    effect: Effect | None = None
    means: tuple[float | None, float | None] = (None, None)


def make_claims(findings: Findings, bounded: Bound) -> tuple[Claim, ...]:
    """All claims of a study, Holm-corrected together; without any p-value where the arms are points of a search."""
    found = list(effects(findings, findings.primary) if findings.factorial is not None else _arms(findings))
    if findings.searched:
        corrected = [attrs.evolve(claim.comparison, p_t=None, p_permutation=None, note="") for claim in found]
    else:
        corrected = list(holm([claim.comparison for claim in found]))
    return tuple(
        attrs.evolve(claim, comparison=bounded(claim.figure, comparison)) for claim, comparison in zip(found, corrected, strict=True)
    )


def _arms(findings: Findings) -> Iterable[Claim]:
    """Every arm against the base."""
    figure, base = findings.primary, findings.base.values(findings.primary)
    for arm in findings.arms[1:]:
        other = arm.values(figure)
        found = compare(base, other, findings.confidence, higher_is_better=findings.mode == "max")
        by_seed = tuple((other[seed] or 0.0) - (base[seed] or 0.0) for seed in found.seeds)
        yield Claim(label=arm.name, figure=figure, comparison=found, by_seed=by_seed)


def cell_values(findings: Findings, figure: str) -> Mapping[tuple[bool, ...], Mapping[int, float | None]]:
    """Cell of a factorial design → seed → the figure."""
    assert findings.factorial is not None
    return {cell_of(findings, arm): arm.values(figure) for arm in findings.arms}


def cell_of(findings: Findings, arm: FoundArm) -> tuple[bool, ...]:
    """The levels of an arm's factors."""
    assert findings.factorial is not None
    return tuple(name in arm.high for name in findings.factorial.factors)


def effects(findings: Findings, figure: str) -> Iterable[Claim]:
    """Every effect that was asked for, uncorrected."""
    design = findings.factorial
    assert design is not None
    values = cell_values(findings, figure)
    for effect in design.effects:
        found = design.contrast(effect, values, findings.confidence)
        yield Claim(label=effect.name, figure=figure, comparison=found.comparison, by_seed=found.by_seed, effect=effect, means=found.means)
