"""``ibllm ablate --plan``: the whole study before anything is spent."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .budget import readable
from .checking import check_arms
from .directory import DONE, StudyDirectory
from .estimate import estimate, probe
from .intermediate import pruning
from .plan import Cell, Plan
from .schema import ALL_PAIRS, BASE, Search
from .statistics import predict_power
from .statistics.samples import level
from .statistics.sequential import nominal_levels, simulate
from .telling import aliased

if TYPE_CHECKING:
    from rich.table import Table

    from ibllm.contracts import Report


def preview(plan: Plan, directory: StudyDirectory, pilot: Path | None = None) -> None:
    """Prints arms, runs, what is shared, what it costs and what so many seeds can show, also by the runs of a pilot's directory."""
    from rich.console import Console

    from .foreseen import foreseen

    # Where there is no terminal (a file, a pipe) nothing says how wide a line may be.
    study, console = plan.study, Console(highlight=False, markup=False, soft_wrap=True, width=shutil.get_terminal_size((150, 24)).columns)
    others = directory.others(plan)
    points = study.table.search.trials if study.table.search is not None else 0
    lines = _search(plan, study.table.search) if study.table.search is not None else []
    if points:
        # The points that were tried are the tables' to show; what is ahead has the base only.
        plan = plan.base_alone()
    arms = len(plan.arms) + points
    reports = check_arms(plan)
    seconds = _seconds(plan, reports)
    console.print(f"{study.name}: {arms} arms × {len(study.seeds)} seeds = {arms * len(study.seeds)} runs of {study.base}", style="bold")
    console.print(
        f"{study.table.design}, decided by {', '.join(f'{name} ({mode})' for name, mode in plan.modes.items())}, steps × {study.table.scale:g}"
    )
    for line in (*_budget(plan), *crossed(plan), *_looked(plan, claims_of(plan, arms)), *lines):
        console.print(line)
    console.print()
    console.print(_arms(plan, reports, seconds))
    console.print()
    console.print(_runs(plan, directory, seconds))
    console.print()
    claims = claims_of(plan, arms)
    units = study.table.draws if study.table.draws > 1 else len(study.seeds)
    for line in (*_sums(plan, directory, seconds), *_nested(plan), *predict_power(units, claims, study.table.confidence).sentences()):
        console.print(line)
    for line in foreseen(plan, pilot, claims) if pilot is not None else ():
        console.print(line)
    if others:
        console.print(f"{len(others)} runs in {directory.path} belong to an earlier version of this study; they are left alone.")


def _nested(plan: Plan) -> list[str]:
    draws = plan.study.table.draws
    return (
        [f"Seeds are nested in {draws} draws of the training data, which are what counts: read draws for seeds below."] if draws > 1 else []
    )


def claims_of(plan: Plan, arms: int) -> int:
    """How many comparisons are corrected for together, of so many arms."""
    design, table = plan.study.factorial, plan.study.table
    own = len(design.effects) if design is not None else arms * (arms - 1) // 2 if table.against == ALL_PAIRS else arms - 1
    return max(1, own * len(table.primaries))


def _looked(plan: Plan, claims: int) -> list[str]:
    """What a sequential plan does, over simulated studies."""
    table = plan.study.table
    if table.sequential is None:
        return []
    looks, kind, alpha = table.sequential.looks, table.sequential.spending, level(table.confidence)
    fixed = predict_power(looks[-1], claims, table.confidence)
    effect = fixed.detectable_holm or fixed.detectable or 1.0
    found = simulate(looks, claims, alpha, kind, effect)
    levels = ", ".join(f"{value:.3g}" for value in nominal_levels(looks, alpha / claims, kind))
    return [
        f"sequential: looks at {', '.join(map(str, looks))} seeds, {kind}; levels of the first of {claims} claims: {levels}",
        f"  simulated, {found.studies:,} studies: without any effect a claim passes at some look in {100 * found.false_alarms:.1f} %; an effect of "
        f"{effect:.3g} sd passes in {100 * found.power:.0f} %, after {found.seeds:.1f} seeds on average (all {looks[-1]} at once: 80 %)",
    ]


def crossed(plan: Plan) -> list[str]:
    """The factors, the cells that are run, the effects that are tested, and what they cannot be told apart from."""
    design = plan.study.factorial
    if design is None:
        return []
    k = len(design.factors)
    cells = f"{len(design.cells)} of {2**k} cells, resolution {design.resolution}" if design.words else f"all {2**k} cells"
    effects = [f"{effect.name} {aliased(effect)}".rstrip() for effect in design.effects]
    return [
        f"{k} factors, {cells}; every seed is a block of all of them; {len(effects)} effects are tested:",
        *(f"  {effect}" for effect in effects),
    ]


def _budget(plan: Plan) -> list[str]:
    """What is held equal, and where the knob stands for it in each arm."""
    budget = plan.study.table.held
    if budget is None:
        return []
    target = (
        f"{readable(budget.parameters)} parameters" if budget.parameters is not None else f"{readable(budget.flops or 0)} training FLOPs"
    )
    stands = ", ".join(f"{value} ({name})" for name, (value, _) in plan.knobs.items())
    return [f"held equal: {target} within {budget.tolerance:.0%}, by {budget.knob} = {stands}"]


def _search(plan: Plan, search: Search) -> list[str]:
    """What a search will try, and by what it gives up."""
    prunes, why = pruning(plan)
    given_up = {"median": "given up where worse than the median of the others", "none": "all run to the end"}[search.pruner]
    return [
        f"the base and {search.trials} points ({len(plan.arms) - 1} tried so far), chosen by {search.sampler}, {given_up}; the axes:",
        *(f"  {axis.key}: {axis}" for axis in plan.study.axes),
        *([] if prunes or search.pruner == "none" else [why]),
    ]


def _seconds(plan: Plan, reports: Mapping[str, Report]) -> Mapping[str, Mapping[str, float]]:
    """Arm → stage → seconds on this machine, from a few steps of the base's stages and each arm's FLOPs."""
    probed = probe(plan.base)
    first = plan.study.seeds[0]
    return {arm.name: estimate(plan.cell(arm.name, first).recipe, probed, plan.base, reports[arm.name], reports[BASE]) for arm in plan.arms}


def _arms(plan: Plan, reports: Mapping[str, Report], seconds: Mapping[str, Mapping[str, float]]) -> Table:
    table = _table("arm", "parameters", "training FLOPs", "a run alone", "differs from the base in")
    for arm in plan.arms:
        recipe = plan.cell(arm.name, plan.study.seeds[0]).recipe
        report = reports[arm.name]
        flops = report.training_flops(recipe)
        differs = [line for line in plan.differs(arm) if not line.startswith("name:")]
        table.add_row(
            arm.name, readable(report.parameters), "—" if flops is None else readable(flops), _time(sum(seconds[arm.name].values())),
            "\n".join(differs),
        )  # fmt: skip
    return table


def _runs(plan: Plan, directory: StudyDirectory, seconds: Mapping[str, Mapping[str, float]]) -> Table:
    table = _table("arm", "seed", "starts after", "trained by", "steps", "time", "status")
    leaders = plan.leaders
    for cell in plan.cells:
        whole = sum(stage.steps for stage in cell.recipe.running())
        shared = [prefix for prefix in cell.prefixes if leaders[prefix.key] is not cell]
        table.add_row(
            cell.arm.name, str(cell.seed),
            shared[-1].stage if shared else "", leaders[shared[-1].key].arm.name if shared else "",
            str(whole - plan.saved(cell)), _time(_own(plan, cell, seconds)), directory.outcome(cell).status,
        )  # fmt: skip
    return table


def _own(plan: Plan, cell: Cell, seconds: Mapping[str, Mapping[str, float]]) -> float:
    """Seconds that the cell itself takes, without the stages that another one trains."""
    leaders = plan.leaders
    shared = {prefix.stage for prefix in cell.prefixes if leaders[prefix.key] is not cell}
    return sum(value for stage, value in seconds[cell.arm.name].items() if stage not in shared)


def _sums(plan: Plan, directory: StudyDirectory, seconds: Mapping[str, Mapping[str, float]]) -> list[str]:
    trained, whole = plan.steps()
    left = [cell for cell in plan.cells if directory.outcome(cell).status != DONE]
    total = sum(_own(plan, cell, seconds) for cell in left)
    lines = [
        f"{trained:,} of {whole:,} iterations are trained; the other {whole - trained:,} ({1 - trained / whole:.0%}) are shared: their stages "
        "are the same so far."
        if trained < whole
        else f"{whole:,} iterations; no stage is the same in two runs.",
        f"{len(left)} runs to do, about {_time(total)} of one worker (from a few steps of each stage on this machine, scaled by FLOPs; without "
        "validation and evaluation).",
    ]
    if plan.study.table.search is not None:
        each = sum(seconds[BASE].values()) * len(plan.study.seeds)
        lines.append(
            f"That is the base alone; {plan.study.table.search.trials} points that cost as much as it, none of them given up, would take "
            f"{_time(each * plan.study.table.search.trials)} of one worker."
        )
    return lines


def _table(*heads: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        right = head in ("parameters", "training FLOPs", "a run alone", "seed", "steps", "time")
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    return table


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
