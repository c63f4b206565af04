"""What is looked at before the first run starts: every arm on the meta device, where runs may go, how many fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ibllm_core.errors import UserError
from ibllm_core.host.options import DatasetConfig

if TYPE_CHECKING:
    from ibllm.contracts import Report
    from ibllm_core.recipe.schema import Recipe

    from .plan import Plan


#: What was walked in this process: all that a walk depends on → what it found.
_WALKED: dict[str, Report] = {}


def walked(recipe: Recipe) -> Report:
    """`ibllm.contracts.check`, once for all recipes that differ in their name, their seed or the items of their data alone: arms of a grid often do.

    Raises:
        UserError: as `check` does.
    """
    from ibllm.contracts import check
    from ibllm.resolved import resolved

    tables = resolved(recipe)
    for key in ("name", "seed", "data"):
        del tables[key]
    shape = recipe.data.config.image_shape if isinstance(recipe.data.config, DatasetConfig) else None
    key = json.dumps([tables, recipe.data.use, shape, sorted(recipe.data.config.provides())], sort_keys=True, default=str)
    if key not in _WALKED:
        _WALKED[key] = check(recipe)
    return _WALKED[key]


def check_arms(plan: Plan) -> Mapping[str, Report]:
    """Arm → its parts as they fit together. Raises `UserError` for an arm whose parts do not.

    Of a search only the base: its points are checked as they are tried.
    """
    found = {}
    for arm in plan.arms if plan.study.table.design != "search" else plan.arms[:1]:
        try:
            found[arm.name] = walked(plan.cell(arm.name, plan.study.seeds[0]).recipe)
        except UserError as error:
            raise UserError(f"{arm.place}: arm {arm.name!r}: {error}") from error
    return found


def choose_devices(wanted: str) -> list[str]:
    """``auto``: every CUDA device there is, else the CPU. Raises `UserError` for a device that is not there."""
    from ibllm_core.model.compute import devices

    there = devices()
    if wanted == "auto":
        return [name for name in there if name.startswith("cuda:")] or ["cpu"]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in there:
            raise UserError(f"--devices {wanted}: {name} is not there; expected auto, {', '.join(there)}")
    if not names:
        raise UserError("--devices: expected auto, cpu, or cuda:0,cuda:1,…")
    return names
