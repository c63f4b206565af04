"""What a recipe holds: every table's keys and what each table is for. Torch-free.

This is the one declaration of a recipe. `Recipe` has a field for each top-level key (`option`) and for each table (`section`), and so has the class of
each entry (`LossEntry`, `PlayerEntry`, `Stage`); a field's type says what its table holds. What reads a recipe (`sections`), writes and compares it
(`document.to_toml`, `ibllm.resolved`) and documents it (docs/_ext/generated.py) walks over these fields, so a table that is added here is known everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

from ..host.options import Config, MetricConfig, option
from .locate import Component, Dependency, Place, Scheduled
from .steering import Balance, Plateau, Watched
from .words import PART, derived, section, sections, with_facts

#: The recipe format this core reads.
FORMAT = 1
#: The kinds of part a model can have, one of each; also their names in ``[model.PART]``.
PARTS = ("text_encoder", "image_decoder", "image_encoder", "text_decoder", "discriminator", "image_tokenizer")


def place_of(part: str) -> str:
    """A part's key path: ``model.text_encoder``, or ``model.extra.NAME``; a sub-module's below it."""
    return f"model.{part}" if part.partition(".")[0] in PARTS or not part else f"model.extra.{part}"


#: Who can play.
PLAYERS = ("model", "critic")
#: What ``[unpaired.NAME]`` may be, and what its dataset must give.
UNPAIRED: Mapping[str, str] = {"text": "captions", "images": "images"}
#: Part → the encoder whose latents it reads.
READS: Mapping[str, str] = {"image_decoder": "text_encoder", "discriminator": "text_encoder", "text_decoder": "image_encoder"}


@attrs.frozen(kw_only=True)
class Init(Config):
    """``init = { run = "runs/joint", parts = ["text_encoder"] }``: start from another run's weights."""

    run: str = option(help="the run directory to take weights from", path="run")
    parts: tuple[str, ...] = option((), help="which parts; empty for all that both have (in a part's own table: that part)")
    weights: str = option("best", help="which of the run's weights", choices=("best", "raw"))


@attrs.frozen(kw_only=True)
class Seeds(Config):
    """``seed = 0`` or one seed for each purpose."""

    init: int = option(0, help="initial weights", ge=0)
    data: int = option(0, help="training data, their order, and the noise of training", ge=0)
    evaluation: int = option(0, help="noise of evaluation and of sample grids", ge=0)


@attrs.frozen(kw_only=True)
class PartEntry(Config):
    """``[model.PART]`` beside the part's own options."""

    component: Component = section(help="the part itself", kind=PART, spread=True)
    init: Init | None = option(None, help="start from another run's weights")


@attrs.frozen(kw_only=True)
class SharedEntry(PartEntry):
    """``[model.shared.NAME]`` beside the module's own options: weights that several parts use, which name it (``backbone = "NAME"``).

    Its `init` takes the run's module of the same name, or the one that ``parts`` names.
    """

    kind: str = with_facts(
        option("backbone", help="what it is: a backbone, or a part that another one is put around", choices=("backbone", *PARTS)),
        added=True,
    )
    frozen: bool = option(False, help='never trained, not by train = "all" either: a teacher, or pretrained weights')


@attrs.frozen(kw_only=True)
class ExtraEntry(SharedEntry):
    """``[model.extra.NAME]`` beside the part's own options: a further part of any kind, of which losses and other packages know by its name.

    Its `init` takes the run's part of its kind, or the one that ``parts`` names.
    """

    kind: str = option(help="what it is: the kind of part", choices=PARTS)
    reads: str | None = option(
        None, help="of a decoder or critic: the encoder whose latents it reads, a further one; by default the model's own"
    )


@attrs.frozen(kw_only=True)
class ModelTable(Config):
    """``[model]`` beside the parts."""

    width: int = option(128, help="width of every part that does not state its own", ge=1)
    parts: Mapping[str, PartEntry] = section(dict, "a part of the model, called by its kind", names=PARTS, spread=True)
    shared: Mapping[str, SharedEntry] = section(dict, "a module that several parts use, by a name of its own", implied="none")
    extra: Mapping[str, ExtraEntry] = section(dict, "a further part, by a name of its own", implied="none")

    @property
    def named(self) -> Mapping[str, SharedEntry]:
        """What has a name of its own: shared modules and further parts."""
        return {**self.shared, **self.extra}

    def starts(self) -> list[tuple[Init | None, dict[str, str]]]:
        """What each part's own `init` says: part → the run's part that it takes."""
        usual = {name: extra.kind for name, extra in self.extra.items()}
        every = {**self.parts, **self.named}.items()
        return [(e.init, {name: e.init.parts[0] if e.init and e.init.parts else usual.get(name, name)}) for name, e in every]


@attrs.frozen(kw_only=True)
class LossEntry(Config):
    """``[losses.NAME]`` beside the loss's own options."""

    weight: float = option(1.0, help="how much it counts; the stage's factor multiplies it", live="training")
    every: int = option(1, help="play it only on every n-th step of its player, n times as heavy", ge=1)
    player: str | None = with_facts(
        option(None, help="who plays it, for the reader; the loss must agree", choices=PLAYERS), unresolved=True
    )
    component: Component = section(help="the loss itself", kind="loss", spread=True)


@attrs.frozen(kw_only=True)
class PlayerEntry(Config):
    """``[players.NAME]`` beside its optimizer."""

    every: int = option(1, help="play only in every n-th iteration", ge=1)
    optimizer: Component = section(help="how the player's parameters follow their gradients", kind="optimizer")


@attrs.frozen(kw_only=True)
class Validation(Config):
    """``[stages.NAME.validate]``: how a stage is watched on held-out data, and what follows from it."""

    every: int = option(100, help="steps between validations; 0 for none", ge=0)
    split: str = option("", help="the split to look at, never one that is reported; the data's own for it where none is named")
    items: int = option(256, help="items of the split", ge=1)
    metrics: tuple[str, ...] = option((), help="names of metrics to compute; empty for those that the watched figure needs")
    figure: str = option("", help="the figure to watch, one that a metric of the recipe gives; empty for the stage's own loss")
    mode: str = option("auto", help="whether more is better: auto for yes with a figure, no with the loss", choices=("auto", "max", "min"))
    best: bool = option(True, help="go on from the weights of the best validation")
    patience: int = option(0, help="stop the stage after so many validations without improvement; 0 for never", ge=0, live="training")
    plateau: Plateau | None = option(None, help="lower the learning rate on a plateau")
    balance: Balance | None = option(None, help="let λ follow the validations")


@attrs.frozen(kw_only=True)
class Training(Config):
    """``[training]``: how every stage is trained unless it says otherwise."""

    batch: int = option(64, help="items an iteration, over all ranks and micro-batches", ge=1)
    accumulate: int = option(1, help="micro-batches an iteration", ge=1)
    clip: float = option(1.0, help="largest gradient norm of a player; 0 for no clipping", ge=0, live="training")
    ema: float = option(0.0, help="decay of the averaged weights that are validated and kept; 0 for none", ge=0, lt=1, live="training")
    log_every: int = option(20, help="steps between log lines; the device is only synchronised there", ge=1)
    checkpoint_every: int = option(200, help="steps between checkpoints; 0 for only at the end of a stage", ge=0)
    keep: int = option(2, help="checkpoints kept besides those at the end of a stage", ge=1)
    watch: Watched | None = with_facts(option(None, help="look for what makes adversarial training fail"), added=True)


@attrs.frozen(kw_only=True)
class Stage(Config):
    """``[stages.NAME]`` beside its schedule, its procedure and its values for ``[training]``.

    Once read, `train` are the names of parts and sub-modules (`trains_all`: it was "all"), `schedule` and `procedure` the stage's own or the recipe's, and
    `training` is the recipe's with the stage's own values laid over.
    """

    name: str = derived(default="")
    steps: int = option(help="iterations; 0 skips the stage", ge=0)
    train: tuple[str, ...] = with_facts(
        option("all", help='parts that are trained, sub-modules of parts (`"image_decoder.prior"`), or "all"; the rest is frozen'),
        written=str | tuple[str, ...],
    )
    losses: Mapping[str, float] = option(help="loss → factor on its own weight", live="training")
    lr: float = option(1.0, help="factor on every learning rate", ge=0, live="training")
    schedule: Component = section(help="of the learning rate over this stage", kind="schedule")
    procedure: Component = section(help="how an iteration of this stage is played", kind="procedure", implied="alternate")
    perturb: Component | None = section(help="adversarial samples in its data's place", kind="perturbation", implied="none", optional=True)
    training: Training = section(spread=True)
    validate: Validation | None = option(None, help="how the stage is watched on held-out data")
    init: Init | None = option(None, help="start from another run's weights")
    place: Place = derived(default=None, eq=False)
    trains_all: bool = derived(default=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are trained, wholly or a sub-module of them."""
        return tuple(dict.fromkeys(name.partition(".")[0] for name in self.train))


@attrs.frozen(kw_only=True)
class Compute(Config):
    """``[compute]``: where and how precisely."""

    device: str = option(
        "auto", help="auto (CUDA where there is one), cpu, cuda, cuda:N; also xpu, mps, and xla where torch_xla is installed"
    )
    precision: str = option(
        "auto",
        help="auto: bf16 on CUDA that has it, fp32 elsewhere; fp32 is exact float32 everywhere; tf32: float32 whose products CUDA rounds to 10 bits",
        choices=("auto", "fp32", "tf32", "bf16"),
    )
    threads: int = option(0, help="CPU threads; 0 for OMP_NUM_THREADS, or the cores this process may use", ge=0)
    workers: int | str = with_facts(
        option(
            "auto",
            help="processes that make batches ahead; 0: a thread; auto: up to 8 on an accelerator as the cores allow, 0 on a CPU",
            ge=0,
        ),
        unresolved=True,
    )
    graphs: bool | str = option(
        "auto",
        help="capture iterations and replay them (CUDA graphs): auto where the device and the parts can",
        choices=("auto", True, False),
    )
    compile: bool | str = option(
        "auto",
        help="torch.compile each part's passes (the critic stays eager: its penalties differentiate twice); auto: on CUDA, from 20 million parameters "
        "and 3,000 steps on, where the minute that it takes is earned back",
        choices=(True, False, "auto"),
    )
    shard: bool = option(
        False,
        help="of several processes each keeps a share of parameters, gradients and moments (FSDP); a part is whole while it is used, the critic always",
    )
    activation_checkpointing: bool = option(
        False,
        help="parts' blocks are computed again in the backward pass instead of kept: less memory, up to a third more time, the same results",
    )

    def __attrs_post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|(cuda|xpu|mps|xla)(:\d+)?", self.device):
            raise ValueError(f'device = "{self.device}": expected auto, cpu, cuda, xpu, mps or xla, with a number or without')
        if isinstance(self.workers, str) and self.workers != "auto":
            raise ValueError(f'workers = "{self.workers}": expected auto or a number')


@attrs.frozen(kw_only=True)
class EvaluationPlan(Config):
    """``[evaluation]``: what is measured at the end, and after each stage."""

    splits: tuple[str, ...] = option((), help="splits that are reported; the data's own for it where nothing is said")
    items: int = option(512, help="items of each split", ge=1)
    after_stage: int = option(256, help="items measured after each stage but the last; 0 for none", ge=0)
    samples: int = option(8, help="items of each split in the sample grid", ge=1)
    batch: int = option(128, help="items a forward pass", ge=1)
    beams: int = option(1, help="texts followed at once to find the likeliest; 1 takes the likeliest word each time", ge=1)
    length_exponent: float = option(0.0, help="beams compare texts by log p / length^exponent; more favours longer ones", ge=0)
    by_language: bool = with_facts(option(False, help="give every figure of captions for each language of the captions, too"), added=True)
    translate: tuple[str, ...] = with_facts(
        option((), help='also measure caption → image → caption in another language, `["en,zh"]`'), added=True
    )


@attrs.frozen(kw_only=True)
class Plugins(Config):
    """``[plugins]``: which plugins this recipe will not load, and which may follow its runs though it uses nothing else of theirs."""

    block: tuple[str, ...] = option((), help="entry-point names that are not loaded")
    hooks: tuple[str, ...] = option((), help="entry-point names of further plugins whose lifecycle hooks are called")


@attrs.frozen(kw_only=True)
class Recipe(Config):
    """A recipe: keys of its own, and tables. `source` is the resolved TOML text that reads back to the same recipe; `dependencies` are
    the files, folders and runs that it names, `scheduled` its numbers that follow a schedule."""

    format: int = option(FORMAT, help="version of the recipe format; some file of the chain must say it", ge=1)
    name: str = option("", help="name of the run; the file's name when left out")
    seed: Seeds = section(Seeds(), "an integer, or one for each purpose")
    order: tuple[str, ...] = option(help="the stages in the order they are played, each once")
    init: Init | None = option(None, help="start from another run's weights")
    plugins: Plugins = section(Plugins(), "which plugins are loaded, and which follow the run")
    data: Component = section(help="what the model is trained and measured on", kind="dataset", required=True)
    unpaired: Mapping[str, Component] = section(dict, "captions or images alone", kind="dataset", names=(*UNPAIRED,), removable=True)
    tokenizers: Mapping[str, Component] = section(dict, "how texts become numbers; parts say which they use", kind="tokenizer")
    model: ModelTable = section(ModelTable(), "the parts of the model", removable=True)
    losses: Mapping[str, LossEntry] = section(dict, "what is minimised, and how much it weighs; stages say when", removable=True)
    metrics: Mapping[str, Component] = section(dict, "what is measured on held-out data", kind="metric", removable=True)
    trackers: Mapping[str, Component] = section(dict, "where figures are written besides", kind="tracker", removable=True)
    optimizer: Component | None = section(help="of every player that names none of its own", kind="optimizer", fills="players")
    schedule: Component = section(None, "of the rate in stages without their own", kind="schedule", otherwise="constant", fills="stages")
    procedure: Component = section(None, "of stages without their own", kind="procedure", otherwise="alternate", fills="stages")
    players: Mapping[str, PlayerEntry] = section(dict, "who plays, how often, and with which optimizer", names=PLAYERS)
    training: Training = section(Training(), "how every stage is trained unless it says otherwise")
    stages: Mapping[str, Stage] = section(dict, "what is trained, one after the other", required=True, removable=True)
    compute: Compute = section(Compute(), "where and how precisely")
    evaluation: EvaluationPlan = section(EvaluationPlan(), "what is measured at the end, and after each stage")
    source: str = derived(default="")
    place: Place = derived(default=None, eq=False)
    dependencies: tuple[Dependency, ...] = derived(default=(), eq=False)
    scheduled: tuple[Scheduled, ...] = derived(default=(), eq=False)

    @property
    def parts(self) -> Mapping[str, Component]:
        """Part → its component, shared modules and further parts by their own names after the others."""
        return {name: part.component for name, part in {**self.model.parts, **self.model.named}.items()}

    def place_of(self, part: str) -> str:
        """A part's key path; a sub-module's below it."""
        return f"model.shared.{part}" if part.partition(".")[0] in self.model.shared else place_of(part)

    def reads(self, part: str) -> str:
        """The encoder whose latents a part reads; empty where it reads none, or there is none."""
        extra = self.model.extra.get(part)
        encoder = (extra.reads if extra else None) or READS.get(self.parts[part].kind, "")
        return encoder if encoder in self.parts else ""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that D_x is told and can be asked to write in; empty where it is told none."""
        return tuple(getattr(self.parts["text_decoder"].config, "languages", ())) if "text_decoder" in self.parts else ()

    def critics(self) -> set[str]:
        """The parts that the critic trains: the discriminators."""
        return {name for name, part in self.parts.items() if part.kind == "discriminator"}

    @property
    def width(self) -> int:
        """The width of the parts that do not state their own."""
        return self.model.width

    def components(self) -> Mapping[str, Component]:
        """Key path → component, for provenance."""
        return dict(_components(self, ()))

    def figures(self) -> Mapping[str, tuple[str, ...]]:
        """Metric → the names of the figures that it says it gives."""
        return {name: c.config.names() if isinstance(c.config, MetricConfig) else () for name, c in self.metrics.items()}

    def validated(self, plan: Validation) -> tuple[str, ...]:
        """The metrics that a validation computes: those it names, and those that give the figures it decides by."""
        watched = {plan.figure} | ({plan.balance.text, plan.balance.image} if plan.balance else set())
        return tuple(name for name, figures in self.figures().items() if name in plan.metrics or watched & set(figures))

    def latent_width(self, part: str) -> int:
        """d, the width of the latents that an encoder gives."""
        return int(getattr(self.parts[part].config, "width", None) or self.width)

    def running(self) -> tuple[Stage, ...]:
        """The stages in order, those with steps = 0 left out."""
        return tuple(self.stages[name] for name in self.order if self.stages[name].steps > 0)


def _components(value: Config, path: tuple[str, ...]) -> Iterator[tuple[str, Component]]:
    for held in (held for held in sections(type(value)) if not held.fills):
        inside, here = getattr(value, held.name), path if held.spread else (*path, held.name)
        for there, one in {(*here, name): one for name, one in inside.items()}.items() if held.named else ((here, inside),):
            if isinstance(one, Component):
                yield ".".join(there), one
            elif one is not None:
                yield from _components(one, there)


#: The tables of a recipe.
SECTIONS = sections(Recipe)
