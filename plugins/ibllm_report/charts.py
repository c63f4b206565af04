"""Which plots a run's metrics give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from ibllm.figures import Figure
from ibllm.glossary import Glossary

from .files import Object, RunFiles, objects
from .plots import MARKERS, Band, Plot, Series, lines, stages
from .results import ITEMS, is_number, split_of

_ABOUT_A_ROW = frozenset({"step", "stage", "time", "kind"})
_OF_A_STAGE = frozenset({"train", "validation", "stage"})


def stage_names(files: RunFiles) -> list[str]:
    """The stages in their order: what the run says it did, else what its metrics and its recipe say."""
    named = [str(entry["name"]) for entry in objects(files.run.get("stages")) if "name" in entry]
    in_rows = [str(row["stage"]) for row in files.rows if "stage" in row and row.get("kind") in _OF_A_STAGE]
    order = files.recipe.get("order")
    in_recipe = [str(name) for name in order] if isinstance(order, list) else []
    return list(dict.fromkeys(named or in_recipe)) + [name for name in dict.fromkeys(in_rows) if name not in (named or in_recipe)]


def bands(files: RunFiles) -> list[Band]:
    """Where each stage that has metrics begins and ends, in global steps."""
    ends: dict[str, float] = {}
    for row in files.rows:
        name = str(row.get("stage"))
        ends[name] = max(ends.get(name, 0.0), float(row["step"]))
    found, start = [], 0.0
    for name in stage_names(files):
        if name in ends:
            turned = [float(knob["step"]) for knob in files.knobs if start <= knob["step"] < ends[name]]
            found.append(Band(name, start, ends[name], turned))
            start = ends[name]
    return [band for band in found if band.end > band.start]


def losses(files: RunFiles) -> list[Plot]:
    """One plot a loss, over all stages; what a critic's loss logs of how well it tells apart shares one."""
    rows, stretches = files.of_kind("train"), bands(files)
    together: dict[tuple[str, bool], list[Series]] = {}
    for key in _keys(rows, lambda key: key.startswith("loss/")):
        loss, _, name = key.rpartition("/")
        told = name.startswith("accuracy_") or name == "certainty"
        series = _series(rows, key)
        together.setdefault((loss if told else key, told), []).append(
            attrs.evolve(series, label=name.replace("_", " ")) if told else series
        )
    titles = {(key, told): _loss_title(key) + ": accuracy" * told for key, told in together}
    return [lines(titles[key], series, stretches, percent=key[1]) for key, series in together.items()]


def training(files: RunFiles) -> list[Plot]:
    """Everything else that training logged: learning rates, gradient norms, throughput; names with one prefix share a plot."""
    rows, stretches = files.of_kind("train"), bands(files)
    together: dict[str, list[Series]] = {}
    for key in _keys(rows, lambda key: not key.startswith("loss/")):
        prefix, slash, name = key.partition("/")
        together.setdefault(prefix.replace("_", " "), []).append(attrs.evolve(_series(rows, key), label=name if slash else prefix))
    return [lines(title, part, stretches) for title, series in together.items() for part in _chunks(series)]


def validation(files: RunFiles) -> list[Plot]:
    """Figures during training: fractions together, every other one for itself. The step a stage's weights were taken from is ringed."""
    rows, stretches = files.of_kind("validation"), bands(files)
    starts = {band.label: band.start for band in stretches}
    steps = {str(entry.get("name")): entry.get("best_step") for entry in objects(files.run.get("stages"))}
    best = {name: starts[name] + float(step) for name, step in steps.items() if name in starts and step is not None and is_number(step)}
    fractions: list[Series] = []
    others: list[Series] = []
    for key in _keys(rows, lambda _: True):
        about = files.glossary.figure(key)
        ringed = [
            (float(row["step"]), float(row[key]))
            for row in rows
            if is_number(row.get(key)) and row["step"] == best.get(str(row.get("stage")))
        ]
        (fractions if about.percent else others).append(attrs.evolve(_series(rows, key), label=about.full_label, ringed=ringed))
    together = [
        lines(_title("Fractions during training", part), part, stretches, percent=True, markers=True) for part in _chunks(fractions)
    ]
    return together + [lines(one.label, [one], stretches, markers=True) for one in others]


@attrs.frozen(kw_only=True)
class AfterStages:
    """What one split's figures were after each stage: rows of (figure, a text for each stage), and their plots."""

    split: str
    stages: Sequence[str]
    rows: Sequence[tuple[Figure, Sequence[str]]]
    plots: Sequence[Plot]


def after_stages(files: RunFiles) -> list[AfterStages]:
    """By split, the one to look at first in front; nothing unless two stages were measured. Where only the final results measured the last stage,
    they stand for it."""
    measured = _stage_figures(files)
    if len(measured) < 2:
        return []
    keys = dict.fromkeys(key for found in measured.values() for key in found)
    splits = list(dict.fromkeys(split_of(key)[0] for key in keys))
    first = files.glossary.first_split(splits)
    return [_after(split, list(keys), measured, files.glossary) for split in sorted(splits, key=lambda split: split != first)]


def _after(split: str, keys: Sequence[str], measured: Mapping[str, Mapping[str, float]], glossary: Glossary) -> AfterStages:
    own = [key for key in keys if split_of(key)[0] == split and split_of(key)[1] != ITEMS]
    own.sort(key=lambda key: glossary.rank(split_of(key)[1]))
    rows, series = [], []
    for key in own:
        about = glossary.figure(split_of(key)[1])
        rows.append((about, [about.shown(found[key]) if key in found else "—" for found in measured.values()]))
        if about.percent:
            series.append(Series(about.full_label, [[(float(k), found[key]) for k, found in enumerate(measured.values()) if key in found]]))
    names = list(measured)
    plots = [stages(_title(f"Fractions on {split or 'all'} after each stage", part), names, part, percent=True) for part in _chunks(series)]
    return AfterStages(split=split, stages=names, rows=rows, plots=plots)


def _stage_figures(files: RunFiles) -> dict[str, dict[str, float]]:
    """Stage → ``split/figure`` → value."""
    sources: list[tuple[str, Object]] = []
    for entry in objects(files.run.get("stages")):
        given = entry.get("figures")
        if isinstance(given, Mapping):
            sources.append((str(entry.get("name")), given))
    sources += [(str(row.get("stage")), row) for row in files.of_kind("stage")]
    names = stage_names(files)
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for name, given in sources:
        found.setdefault(name, {}).update(
            {key: float(value) for key, value in given.items() if key not in _ABOUT_A_ROW and is_number(value)}
        )
    if names and not found[names[-1]]:
        found[names[-1]] = {key: float(value) for key, value in files.results.items() if is_number(value)}
    return {name: values for name, values in found.items() if values}


def _title(title: str, series: Sequence[Series]) -> str:
    """A plot of one line has no legend, so its title says which line it is."""
    return f"{title}: {series[0].label}" if len(series) == 1 else title


def _loss_title(key: str) -> str:
    """``loss/critic/adversarial`` → ``adversarial, the critic's side``."""
    name = key.removeprefix("loss/")
    return f"{name.removeprefix('critic/')}, the critic's side" if name.startswith("critic/") else name


def _keys(rows: Iterable[Object], wanted: Callable[[str], bool]) -> list[str]:
    """Names of numbers in the rows, in order of appearance."""
    return list(
        dict.fromkeys(key for row in rows for key, value in row.items() if key not in _ABOUT_A_ROW and is_number(value) and wanted(key))
    )


def _series(rows: Sequence[Object], key: str) -> Series:
    pieces: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if is_number(row.get(key)):
            pieces.setdefault(str(row.get("stage")), []).append((float(row["step"]), float(row[key])))
    return Series(key, list(pieces.values()))


def _chunks(series: Sequence[Series]) -> list[Sequence[Series]]:
    return [series[k : k + len(MARKERS)] for k in range(0, len(series), len(MARKERS))]
