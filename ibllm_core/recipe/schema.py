"""A recipe once resolved: what every table holds, with its meaning and range. Torch-free.

Options are declared like a component's (`ibllm_core.host.options.option`), so their help, ranges and defaults are printed and
checked by the same code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from ..host.options import Config, MetricConfig, option
from ..host.spec import ComponentSpec

#: The recipe format this core reads.
FORMAT = 1
#: The kinds of part a model can have, one of each; also their names in ``[model.PART]``.
PARTS = ("text_encoder", "image_decoder", "image_encoder", "text_decoder", "discriminator", "image_tokenizer")
#: What ``[unpaired.NAME]`` may be, and what its dataset must give.
UNPAIRED: Mapping[str, str] = {"text": "captions", "images": "images"}
#: Part → the encoder whose latents it reads.
READS: Mapping[str, str] = {"image_decoder": "text_encoder", "discriminator": "text_encoder", "text_decoder": "image_encoder"}


@attrs.frozen(kw_only=True)
class Ramp(Config):
    """``{ from = 0.0, to = 0.1, over = 300 }``: linear from one value to another over so many steps of a stage, then constant."""

    start: float = option(0.0, help="value at the stage's first step", key="from")
    to: float = option(help="value after `over` steps")
    over: int = option(help="steps from the first value to the last", ge=1)

    def at(self, step: int) -> float:
        return self.start + (self.to - self.start) * min(1.0, step / self.over)


#: A loss weight: a number, or a line from one value to another over some of the stage's steps.
Weight = float | Ramp


def weight_at(weight: Weight, step: int) -> float:
    """The value of a weight at a stage's step."""
    return weight.at(step) if isinstance(weight, Ramp) else weight


@attrs.frozen(kw_only=True)
class Place:
    """Where something stands: ``file:line`` and the key path; for an override, ``--set KEY=VALUE`` and line 0."""

    file: str
    line: int
    key: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@attrs.frozen(kw_only=True)
class Component:
    """A table with ``use``: the component it names, its options, where it stands and who provides it."""

    kind: str
    use: str
    config: Config
    spec: ComponentSpec
    place: Place = attrs.field(eq=False)
    distribution: str
    version: str
    init: Init | None = None

    def __str__(self) -> str:
        return f"{self.kind}.{self.use}"


@attrs.frozen(kw_only=True)
class Init(Config):
    """``init = { run = "runs/joint", parts = ["text_encoder"] }``: start from another run's weights."""

    run: str = option(help="the run directory to take weights from")
    parts: tuple[str, ...] = option((), help="which parts; empty for all that both have (in a part's own table: that part)")
    weights: str = option("best", help="which of the run's weights", choices=("best", "raw"))


@attrs.frozen(kw_only=True)
class Seeds(Config):
    """``seed = 0`` or one seed for each purpose."""

    init: int = option(0, help="initial weights", ge=0)
    data: int = option(0, help="training data, their order, and the noise of training", ge=0)
    evaluation: int = option(0, help="noise of evaluation and of sample grids", ge=0)


@attrs.frozen(kw_only=True)
class LossEntry:
    """``[losses.NAME]``: a loss and its weight; a stage's factor multiplies the weight."""

    component: Component
    weight: Weight = 1.0
    every: int = 1


@attrs.frozen(kw_only=True)
class PlayerEntry:
    """``[players.NAME]``: who plays, how often, and with which optimizer."""

    optimizer: Component
    every: int = 1


@attrs.frozen(kw_only=True)
class Plateau(Config):
    """``plateau = { factor = 0.5, patience = 2 }``: lower the learning rate when the watched figure stops improving."""

    factor: float = option(0.5, help="what the rate is multiplied with", gt=0, lt=1)
    patience: int = option(2, help="validations without improvement before it is", ge=1)


@attrs.frozen(kw_only=True)
class Balance(Config):
    """``balance = { … }``: λ follows the validation, up while image → text lags behind text → image, down otherwise."""

    loss: str = option("joint", help="name of the composite loss whose λ is steered")
    text: str = option(help="figure of the text module (text → image), higher is better")
    image: str = option(help="figure of the image module (image → text), higher is better")
    rate: float = option(0.5, help="log-change of λ for a full point of difference", gt=0)
    limit: float = option(10.0, help="λ stays within this factor of its start", gt=1)


@attrs.frozen(kw_only=True)
class Validation(Config):
    """``[stages.NAME.validate]``: how a stage is watched on held-out data, and what its result steers."""

    every: int = option(100, help="steps between validations; 0 for none", ge=0)
    split: str = option("novel-validation", help="the split to look at; never one that is reported")
    items: int = option(256, help="items of the split", ge=1)
    metrics: tuple[str, ...] = option((), help="names of metrics to compute; empty for those that the watched figure needs")
    figure: str = option("", help="the figure to watch, e.g. scene_exact; empty for the stage's own loss")
    mode: str = option("auto", help="whether more is better: auto for yes with a figure, no with the loss", choices=("auto", "max", "min"))
    best: bool = option(True, help="go on from the weights of the best validation")
    patience: int = option(0, help="stop the stage after so many validations without improvement; 0 for never", ge=0)
    plateau: Plateau | None = option(None, help="lower the learning rate on a plateau")
    balance: Balance | None = option(None, help="steer λ")


@attrs.frozen(kw_only=True)
class Training(Config):
    """``[training]``: how every stage is trained unless it says otherwise."""

    batch: int = option(64, help="items an iteration, over all ranks and micro-batches", ge=1)
    accumulate: int = option(1, help="micro-batches an iteration", ge=1)
    clip: float = option(1.0, help="largest gradient norm of a player; 0 for no clipping", ge=0)
    ema: float = option(0.0, help="decay of the averaged weights that are validated and kept; 0 for none", ge=0, lt=1)
    log_every: int = option(20, help="steps between log lines; the device is only synchronised there", ge=1)
    checkpoint_every: int = option(200, help="steps between checkpoints; 0 for only at the end of a stage", ge=0)
    keep: int = option(2, help="checkpoints kept besides those at the end of a stage", ge=1)


@attrs.frozen(kw_only=True)
class Stage:
    """``[stages.NAME]``.

    Attributes:
        steps: iterations; 0 skips the stage.
        train: part names; the others are frozen.
        losses: name → factor on the loss's own weight.
        lr: factor on every learning rate.
        schedule: of the learning rate over this stage.
        training: `Training` with the stage's own values laid over.
        validate: how it is watched, or None.
        init: start from another run, or None.
    """

    name: str
    steps: int
    train: tuple[str, ...]
    losses: Mapping[str, Weight]
    lr: float
    schedule: Component
    training: Training
    validate: Validation | None
    init: Init | None
    place: Place = attrs.field(eq=False)


@attrs.frozen(kw_only=True)
class Compute(Config):
    """``[compute]``: where and how precisely."""

    device: str = option("auto", help="auto (CUDA where there is one), cpu, cuda, cuda:N")
    precision: str = option(
        "auto",
        help="auto: bf16 on CUDA that has it, fp32 elsewhere (bf16 autocast is many times slower on most CPUs)",
        choices=("auto", "fp32", "bf16"),
    )
    threads: int = option(0, help="CPU threads; 0 for the number of cores this process may use", ge=0)
    compile: bool = option(False, help="torch.compile each part's passes (the critic stays eager: its penalties differentiate twice)")

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f'device = "{self.device}": expected auto, cpu, cuda or cuda:N')


@attrs.frozen(kw_only=True)
class EvaluationPlan(Config):
    """``[evaluation]``: what is measured at the end, and after each stage."""

    splits: tuple[str, ...] = option(("test", "novel"), help="splits that are reported")
    items: int = option(512, help="items of each split", ge=1)
    after_stage: int = option(256, help="items measured after each stage but the last; 0 for none", ge=0)
    samples: int = option(8, help="items of each split in the sample grid", ge=1)
    batch: int = option(128, help="items a forward pass", ge=1)
    beams: int = option(
        1, help="texts followed at once to find the likeliest caption or answer; 1 takes the likeliest word each time", ge=1
    )
    length_exponent: float = option(
        0.0, help="with beams, texts are compared by log p / length^exponent; more than 0 favours longer ones", ge=0
    )


@attrs.frozen(kw_only=True)
class Plugins(Config):
    """``[plugins]``: which plugins this recipe will not load, and which may follow its runs though it uses nothing else of theirs."""

    block: tuple[str, ...] = option((), help="entry-point names that are not loaded")
    hooks: tuple[str, ...] = option(
        (), help="entry-point names of plugins whose lifecycle hooks are called; those of the plugins whose components it uses are anyway"
    )


@attrs.frozen(kw_only=True)
class Recipe:
    """A resolved recipe. `source` is the resolved TOML text that reads back to the same recipe.

    `unpaired` maps ``text`` and ``images`` to further datasets, of which only the captions or only the images are used.
    """

    name: str
    seed: Seeds
    order: tuple[str, ...]
    data: Component
    unpaired: Mapping[str, Component]
    tokenizers: Mapping[str, Component]
    width: int
    parts: Mapping[str, Component]
    losses: Mapping[str, LossEntry]
    metrics: Mapping[str, Component]
    trackers: Mapping[str, Component]
    players: Mapping[str, PlayerEntry]
    stages: Mapping[str, Stage]
    training: Training
    compute: Compute
    evaluation: EvaluationPlan
    plugins: Plugins
    init: Init | None
    source: str
    place: Place = attrs.field(eq=False)

    def components(self) -> Mapping[str, Component]:
        """Key path → component, for provenance."""
        found: dict[str, Component] = {"data": self.data}
        found |= {f"unpaired.{name}": c for name, c in self.unpaired.items()}
        found |= {f"tokenizers.{name}": c for name, c in self.tokenizers.items()}
        found |= {f"model.{name}": c for name, c in self.parts.items()}
        found |= {f"losses.{name}": entry.component for name, entry in self.losses.items()}
        found |= {f"metrics.{name}": c for name, c in self.metrics.items()}
        found |= {f"trackers.{name}": c for name, c in self.trackers.items()}
        found |= {f"players.{name}.optimizer": p.optimizer for name, p in self.players.items()}
        found |= {f"stages.{name}.schedule": s.schedule for name, s in self.stages.items()}
        return found

    def figures(self) -> Mapping[str, tuple[str, ...]]:
        """Metric → the names of the figures that it says it gives."""
        return {name: c.config.names() if isinstance(c.config, MetricConfig) else () for name, c in self.metrics.items()}

    def validated(self, plan: Validation) -> tuple[str, ...]:
        """The metrics that a validation computes: those it names, and those that give the figures it steers by."""
        steered = {plan.figure} | ({plan.balance.text, plan.balance.image} if plan.balance else set())
        return tuple(
            name
            for name, component in self.metrics.items()
            if name in plan.metrics or (isinstance(component.config, MetricConfig) and steered & set(component.config.names()))
        )

    def latent_width(self, part: str) -> int:
        """d, the width of the latents that an encoder gives."""
        return int(getattr(self.parts[part].config, "width", None) or self.width)

    def running(self) -> tuple[Stage, ...]:
        """The stages in order, those with steps = 0 left out."""
        return tuple(self.stages[name] for name in self.order if self.stages[name].steps > 0)
