"""What makes adversarial training fail, and how it shows in rows of figures. Torch-free.

A diagnosis is a function of a stage's rows up to now, so that a run that goes on from a checkpoint sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import attrs

#: The critic gives its answers this much certainty where it overpowers; no gradient worth the name is left then for either player.
CERTAIN = 0.995
#: A critic that is asleep scores real images by no more than this above generated ones, in the units of the loss (1 is the hinge's margin).
NO_GAP = 0.02
#: Rows, as a multiple of `patience`, for which a critic may find its feet before it counts as asleep.
SETTLING = 2
#: Drawings collapse where their variety falls to this share of what it has been, which has to be this much of the data's.
LEFT, VARIED = 0.25, 0.2
#: What an untrained decoder makes of its noise is no variety of drawings: it has to have grown by this, or captions to count
#: for more than noise by this, unless the decoder was trained before.
GROWN, FOLLOWED = 1.5, 2.0
#: A gradient vanishes where its norm is below this share of what it was in the middle of the stage's rows so far.
VANISHED = 1e-4
#: Players circle where the critic is right of so many generated images, then of so few, and so on, with so many turns within so many rows.
HIGH, LOW, TURNS, WINDOW = 0.75, 0.25, 3, 16


@attrs.frozen
class Row:
    """What one row of figures says of the players' health; None of what it does not say. With several critics' losses, of the one that is worst off."""

    certainty: float | None = None
    gap: float | None = None
    accuracy: float | None = None
    variety: float | None = None
    diversity: float | None = None
    model: float | None = None
    critic: float | None = None

    @classmethod
    def of(cls, figures: Mapping[str, float]) -> Row:
        """From a row of metrics.jsonl, or what is about to be one."""

        def critics(name: str, choose: Callable[[Sequence[float]], float]) -> float | None:
            found = [value for key, value in figures.items() if key.startswith("loss/critic/") and key.endswith(f"/{name}")]
            return choose(found) if found else None

        return cls(
            certainty=critics("certainty", max),
            gap=critics("gap", min),
            accuracy=critics("accuracy_generated", min),
            variety=figures.get("watch/variety"),
            diversity=figures.get("watch/diversity"),
            model=figures.get("grad_norm/model"),
            critic=figures.get("grad_norm/critic"),
        )


@attrs.frozen
class Symptom:
    """Something that makes adversarial training fail.

    Attributes:
        name: for records.
        title: for messages.
        shows: how it shows, for the report and the docs.
        remedy: what to change.
        seen: as `diagnose`, for this one: what was seen, in words; empty where nothing was.
    """

    name: str
    title: str
    shows: str
    remedy: str
    seen: Callable[[Sequence[Row], int, bool], str] = attrs.field(default=lambda rows, patience, trained: "", eq=False, repr=False)


def _last(rows: Sequence[Row], name: str, count: int) -> list[float] | None:
    """The last `count` values of a figure that some rows may lack; None where there are not as many."""
    found = [value for row in rows if (value := getattr(row, name)) is not None][-count:]
    return found if len(found) == count else None


def _overpowering(rows: Sequence[Row], patience: int, trained: bool) -> str:
    last = _last(rows, "certainty", patience)
    return f"the critic's certainty was {min(last):.4f} or more" if last and min(last) >= CERTAIN else ""


def _asleep(rows: Sequence[Row], patience: int, trained: bool) -> str:
    last = _last(rows, "gap", SETTLING * patience)
    return f"real images scored {max(last):.3g} or less above generated ones" if last and max(last) < NO_GAP else ""


def _collapsed(rows: Sequence[Row], patience: int, trained: bool) -> str:
    last, most, least = _last(rows, "variety", patience), 0.0, math.inf
    for row in (row for row in rows if row.variety is not None):
        assert row.variety is not None
        if trained or row.variety >= GROWN * least or (row.diversity and row.variety >= FOLLOWED * row.diversity):
            most = max(most, row.variety)
        least = min(least, row.variety)
    if not last or most < VARIED or max(last) > LEFT * most:
        return ""
    return f"drawings of different captions differ by {max(last):.3f} or less of what real images do, and did by {most:.3f}"


def _vanishing(rows: Sequence[Row], patience: int, trained: bool) -> str:
    for player in ("model", "critic"):
        last, known = _last(rows, player, patience), [value for row in rows if (value := getattr(row, player)) is not None]
        if not last or len(known) < 2 * patience:
            continue
        before = statistics.median(known[:-patience])
        if max(last) <= VANISHED * before:
            return f"the gradient norm of the {player} was {max(last):.2g} or less, and {before:.2g} before"
    return ""


def _oscillating(rows: Sequence[Row], patience: int, trained: bool) -> str:
    known = [row.accuracy for row in rows if row.accuracy is not None][-max(WINDOW, 3 * patience) :]
    turns, side = 0, 0
    for value in known:
        now = 1 if value >= HIGH else -1 if value <= LOW else side
        turns += now != side and side != 0
        side = now
    if turns < TURNS:
        return ""
    return (
        f"the critic was right of {HIGH:.0%} of generated images and more, then of {LOW:.0%} and fewer, {turns} turns in {len(known)} rows"
    )


SYMPTOMS = {
    symptom.name: symptom
    for symptom in (
        Symptom(
            "overpowering",
            "the critic overpowers the model",
            f"its certainty is {CERTAIN} or more in every row: it has nothing left to learn, and the model learns little from it",
            "a gradient penalty, or a stronger one (gamma), a lower rate of the critic (players.critic.optimizer.lr), fewer of its turns "
            '(players.critic.every), or augment = ["translation", "cutout"] with an adaptive probability',
            _overpowering,
        ),
        Symptom(
            "asleep",
            "the critic is asleep",
            f"real images score less than {NO_GAP} above generated ones, for {SETTLING} times as many rows as the others have to last: it tells nothing apart",
            "a higher rate of the critic (players.critic.optimizer.lr), a larger critic, a weaker gradient penalty, or none on so many steps",
            _asleep,
        ),
        Symptom(
            "collapse",
            "drawings have collapsed",
            f"drawings of different captions differ by less than {LEFT:.0%} of what they did, once they did by {VARIED:.0%} of what real images do",
            "a lower weight of the adversarial loss, mode_seeking or feature_matching beside it, a critic with minibatch discrimination, or lower rates",
            _collapsed,
        ),
        Symptom(
            "vanishing",
            "gradients vanish",
            f"a player's gradient norm is below {VANISHED:g} of what it was in the middle of the rows before",
            "a loss that does not saturate (non_saturating, relativistic), a gradient penalty that keeps the critic's slope, or a larger weight of the loss",
            _vanishing,
        ),
        Symptom(
            "oscillation",
            "the players circle",
            f"the critic is right of {HIGH:.0%} of the generated images and more, then of {LOW:.0%} and fewer, {TURNS} turns or more within {WINDOW} rows",
            "lower rates of both players, betas = [0.0, 0.9], a gradient penalty, or procedure = { use = \"extragradient\" } or { use = \"lookahead\" }",
            _oscillating,
        ),
        Symptom(
            "not_finite",
            "numbers are not finite",
            "a loss, a gradient norm or a weight is infinite or no number",
            "a lower learning rate, gradient clipping (training.clip), or fp32",
        ),
    )
}  # fmt: skip


def diagnose(rows: Sequence[Row], patience: int, trained: bool = False) -> dict[str, str]:
    """Symptom → what was seen of it.

    Args:
        rows: of a stage, up to the last one.
        patience: rows that have to show it.
        trained: the image decoder was trained before the stage, so that even its first drawings follow captions.
    """
    return {name: because for name, symptom in SYMPTOMS.items() if (because := symptom.seen(rows, patience, trained))}


@attrs.frozen
class Alarm:
    """A symptom that a stage has begun to show.

    Attributes:
        step: of the run.
        action: what followed: ``warned``, ``rolled back`` or ``stopped``.
        to: the step that it was rolled back to.
        times: how often the stage has gone back, with this.
    """

    stage: str
    step: int
    symptom: str
    because: str
    action: str = "warned"
    to: int | None = None
    times: int = 0

    @property
    def told(self) -> str:
        """For the terminal and the report."""
        symptom = SYMPTOMS[self.symptom]
        done = {"rolled back": f". Rolled back to step {self.to} (time {self.times} in this stage)", "stopped": ". Stopped"}.get(
            self.action, ""
        )
        return f"watch: stage {self.stage}, step {self.step}: {symptom.title}: {self.because}. What helps: {symptom.remedy}{done}"


def afterwards(rows: Sequence[Mapping[str, object]], patience: int = 5) -> list[Alarm]:
    """What a watch would have warned of in a run that had none, from the rows of its metrics.jsonl: what depends on drawings alone is not seen."""
    found: list[Alarm] = []
    seen: dict[str, list[Row]] = {}
    before: dict[str, set[str]] = {}
    for row in (row for row in rows if row.get("kind") == "train"):
        stage, figures = str(row["stage"]), {key: float(v) for key, v in row.items() if isinstance(v, int | float) and math.isfinite(v)}
        seen.setdefault(stage, []).append(Row.of(figures))
        now = diagnose(seen[stage], patience)
        found += [
            Alarm(stage, int(figures["step"]), name, because) for name, because in now.items() if name not in before.get(stage, set())
        ]
        before[stage] = set(now)
    return found
