"""The rules about data: what it must give, and what unpaired data must have in common with it. Torch-free."""

from __future__ import annotations

from collections.abc import Callable

from ..host.options import DatasetConfig
from .draft import Draft, offers, provider_of, switches
from .schema import UNPAIRED, Component


def data_needs_are_met(draft: Draft) -> None:
    """The data give what losses and metrics ask for; captions and images by themselves may be unpaired ones too."""
    if draft.data is None:
        return
    given = draft.data.config.provides() | {UNPAIRED[name] for name in draft.names("unpaired") if name in UNPAIRED}
    for path, component, need in draft.all_needs():
        where, _, ability = need.partition(".")
        if where == "data" and ability not in given:
            _data_cannot(draft, path, component, draft.data, ability)


def _data_cannot(draft: Draft, path: tuple[str, str], component: Component, data: Component, ability: str) -> None:
    turned_on = [f"data.{switch}" for switch in switches(data.config, ability)]
    able = [name for name in draft.manager.names("dataset") if ability in offers(draft.manager, "dataset", name)]
    others = ["[data] with use = " + " or ".join(f'"{name}"' for name in able)] if able else []
    tables = [f"a table [unpaired.{name}]" for name, given in UNPAIRED.items() if given == ability]
    draft.say(
        (*path, "use"),
        f"{component.use} needs data.{ability}, which {data.use} ({data.place}) does not provide",
        expected=", or ".join([*turned_on, *others, *tables]) or "another dataset; none that is installed provides it",
        provider=provider_of(data),
    )


def unpaired_data_fit(draft: Draft) -> None:
    """A table gives what it is there for, and its images are of the main data's shape."""
    for name, component in draft.unpaired.items():
        wanted, path = UNPAIRED[name], ("unpaired", name)
        if wanted not in component.config.provides():
            able = [other for other in draft.manager.names("dataset") if wanted in offers(draft.manager, "dataset", other)]
            draft.say(
                (*path, "use"),
                f"{component.use} gives no {wanted} as it stands",
                expected="options with which it does, or use = " + " or ".join(f'"{other}"' for other in able),
                provider=provider_of(component),
            )
    images = draft.unpaired.get("images")
    if images is None or draft.data is None:
        return
    own, main = images.config, draft.data.config
    if isinstance(own, DatasetConfig) and isinstance(main, DatasetConfig) and own.image_shape != main.image_shape:
        draft.say(
            ("unpaired", "images", "size" if hasattr(own, "size") else "use"),
            f"its images are (c h w) = {own.image_shape}, those of the main data {main.image_shape}",
            expected=f"images of one shape; [data] is {draft.data.use} ({draft.data.place})",
            provider=provider_of(images),
        )


def held_out_losses_have_data(draft: Draft) -> None:
    """A stage that watches its own loss finds, in the split it looks at, what the data alone do not give."""
    if draft.data is None:
        return
    for name, stage in draft.stages.items():
        plan = stage.validate
        if plan is None or not plan.every or plan.figure:
            continue
        for table, wanted in UNPAIRED.items():
            component = draft.unpaired.get(table)
            if component is None or wanted in draft.data.config.provides() or not isinstance(component.config, DatasetConfig):
                continue
            splits = component.config.splits()
            if plan.split not in splits:
                draft.unknown(
                    ("stages", name, "validate", "split"),
                    f'the stage watches its own loss, but [unpaired.{table}] has no split "{plan.split}", and the data no {wanted}',
                    plan.split,
                    splits,
                )


DATA_RULES: tuple[Callable[[Draft], None], ...] = (data_needs_are_met, unpaired_data_fit, held_out_losses_have_data)
