"""The walk on the meta device before anything is spent: do the parts fit, and what do they cost?"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ibllm.local_model import AdaptingConfig
from ibllm_core.model import build
from ibllm_core.recipe.draft import needs
from ibllm_core.recipe.schema import Recipe

from .inputs import META, Meter, fabricate
from .parts import ITEMS, PartRow, check_starts, walk_part
from .stages import StageRow, walk_stage

__all__ = ["PartRow", "Report", "StageRow", "check"]


@attrs.frozen
class Report:
    """What a check found out: a recipe whose parts fit, and what they cost."""

    parts: tuple[PartRow, ...]
    stages: tuple[StageRow, ...]
    idle: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """What is built or trained to no purpose, and where that cannot be told, a line each."""
        idle = [f"{name} is there, but no stage trains it, and no loss and no metric says that it uses it" for name in self.idle]
        uncounted = [row.stage for row in self.stages if row.flops is None]
        unknown = [
            f"stage {name}: a backward pass cannot be played on the meta device; what losses reach is not known" for name in uncounted
        ]
        return [*(left for row in self.stages for left in row.unreached), *idle, *self.untrained, *unknown]

    @property
    def parameters(self) -> int:
        """Of all parts together."""
        return sum(row.parameters for row in self.parts)

    def training_flops(self, recipe: Recipe) -> int | None:
        """Of a run of the recipe, forward and backward: Σ over its stages of steps × batch × FLOPs an item. None where a stage's cannot be counted."""
        flops = {row.stage: row.flops for row in self.stages if row.flops is not None}
        if any(stage.name not in flops for stage in recipe.running()):
            return None
        return sum(stage.steps * stage.training.batch * flops[stage.name] for stage in recipe.running())


def check(recipe: Recipe) -> Report:
    """Builds the recipe on the meta device, walks every part and every stage's losses. Raises `ComponentFailed` at the first contract that is not kept."""
    tokenizers = build.build_tokenizers(recipe)
    with META:
        model = build.build_model(recipe, tokenizers, build.image_shape(recipe))
    check_starts(recipe, model)
    meter = Meter()
    batch = fabricate(model, ITEMS, META)
    rows = tuple(walk_part(recipe, model, batch, name, meter) for name in model.parts)
    stages = tuple(walk_stage(recipe, model, stage, meter) for stage in recipe.running())
    for player in recipe.players:
        build.build_optimizer(recipe, player)
    build.build_metrics(recipe)
    build.build_trackers(recipe)
    used = {part for stage in recipe.running() for part in stage.parts}
    used |= {need.partition(".")[0] for component in recipe.components().values() for need in needs(component.config)}
    return Report(rows, stages, tuple(recipe.place_of(name) for name in model.parts if name not in used), tuple(_untrained(recipe)))


def _untrained(recipe: Recipe) -> Iterator[str]:
    """A line for each sub-module that is trained while the rest of its part is as it was built."""
    inits = [recipe.init, *(stage.init for stage in recipe.running())]
    known = {part for init in inits if init for part in init.parts or recipe.parts}
    known |= {part for init, parts in recipe.model.starts() if init for part in parts}
    known |= {
        name for name, part in recipe.parts.items() if isinstance(part.config, AdaptingConfig)
    }  # its first weights are a pretrained model's
    for stage in recipe.running():
        known |= set(stage.train)
        for name in (name for name in stage.train if name.partition(".")[0] not in known):
            part = recipe.place_of(name.partition(".")[0])
            yield f"stage {stage.name} trains {name}; the rest of {part} has its first weights: nothing before has trained it"
