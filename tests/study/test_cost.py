"""What a run costs: counted before it, against a hand's count and against the training itself; recorded by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_study.estimate import estimate, probe
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ibllm.contracts import Report, check
from ibllm.contracts.inputs import fabricate
from ibllm.iterations import kinds_of
from ibllm_core.interfaces.latent import Latent
from ibllm_core.model import build
from ibllm_core.model.players import Average
from ibllm_core.model.shares import Ranks
from ibllm_core.model.stage import StageTrainer
from ibllm_core.recipe import Recipe, load

from .conftest import TINY, invoke

#: Only the text stage, of a linear map and two transposed convolutions: nothing else multiplies.
PLAIN = (
    'model.text_encoder={ use = "bag" }',
    'model.image_decoder={ use = "dcgan", channels = [16, 8], noise = 4 }',
    "stages.image.steps=0",
    "stages.joint.steps=0",
)


def tiny(*sets: str) -> Recipe:
    return load(TINY, ("compute.device=cpu", "compute.threads=1", *sets))


def flops(recipe: Recipe) -> dict[str, int]:
    counted = {row.stage: row.flops for row in check(recipe).stages}
    assert None not in counted.values()
    return counted  # type: ignore[return-value]


def test_flops_are_those_of_a_hand_count() -> None:
    width, noise, image = 16, 4, 32
    grid = image // 4
    # A multiplication and an addition for each weight and place; a transposed 4×4 convolution uses each of its weights once a place that it reads.
    linear = 2 * (width + noise) * 16 * grid**2
    first, second = 2 * 16 * 8 * 4**2 * grid**2, 2 * 8 * 3 * 4**2 * (2 * grid) ** 2
    convolutions = first + second
    # Backward: as much for the weights and as much for the input, of which a frozen text encoder needs no gradient.
    assert flops(tiny(*PLAIN))["text"] == pytest.approx(3 * (linear + convolutions), rel=1e-6)
    removed = (f"losses.{name}=false" for name in ("text_nll", "joint", "adversarial", "penalty", "cycle"))
    frozen = flops(tiny(*PLAIN, *removed, "stages.image.steps=1", 'stages.image.train=["image_decoder"]'))["image"]
    assert frozen == pytest.approx(2 * linear + 3 * convolutions, rel=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_flops_are_those_of_the_training_itself(accumulate: int) -> None:
    # torch counts no fused attention on a CPU, so it is taken apart; the item's texts are as long as they may be.
    recipe = tiny(f"training.accumulate={accumulate}")
    model = build.build_model(recipe, build.build_tokenizers(recipe), build.image_shape(recipe))
    counted = flops(recipe)
    for stage in recipe.running():
        losses = build.build_losses(recipe, build.losses_with_terms(recipe, tuple(stage.losses)), model)
        trainer = StageTrainer(recipe, stage, model, losses, Average(), Ranks())
        micro = [fabricate(model, stage.training.batch // accumulate, torch.device("cpu"))] * accumulate
        steps = sum(kind.count for kind in kinds_of(trainer))
        counter: Any = FlopCounterMode(display=False)
        with counter, sdpa_kernel(SDPBackend.MATH):
            for _ in range(steps):
                trainer.iterate(micro)
        assert counted[stage.name] == pytest.approx(counter.get_total_flops() / steps / stage.training.batch, rel=1e-6), stage.name


def test_lazy_losses_and_players_count_as_often_as_they_are_played() -> None:
    always, lazy = flops(tiny("losses.penalty.every=1"))["image"], flops(tiny("losses.penalty.every=3"))["image"]
    never = flops(tiny("losses.penalty=false"))["image"]
    assert always > lazy > never
    assert lazy == pytest.approx((always + 2 * never) / 3, rel=1e-6)
    rare = flops(tiny("losses.penalty.every=1", "players.critic.every=6"))["image"]
    assert rare < (always + never) / 2
    # A stage of three steps plays every sixth step once.
    assert flops(tiny("losses.penalty.every=6", "stages.image.steps=3"))["image"] == pytest.approx(lazy, rel=1e-6)


def test_flops_of_a_run_are_steps_times_batch_times_an_items() -> None:
    recipe = tiny()
    report = check(recipe)
    counted = flops(recipe)
    assert report.training_flops(recipe) == 8 * (8 * counted["text"] + 6 * counted["image"] + 6 * counted["joint"])
    assert report.training_flops(tiny("stages.joint.steps=0")) == 8 * (8 * counted["text"] + 6 * counted["image"])


class NotOnMeta(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        if gradient.is_meta:
            raise NotImplementedError("no kernel for the meta device")
        return gradient


def test_what_the_meta_device_cannot_do_is_left_uncounted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ibllm_bag.text_encoder import BagTextEncoder

    given = BagTextEncoder.encode

    def encode(self: Any, embeddings: torch.Tensor, mask: torch.Tensor) -> Latent:
        return given(self, NotOnMeta.apply(embeddings), mask)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(BagTextEncoder, "encode", encode)
    recipe = tiny(*PLAIN)
    report = check(recipe)
    assert [row.flops for row in report.stages] == [None]
    assert report.training_flops(recipe) is None
    shown = invoke("check", TINY, *(word for text in PLAIN for word in ("--set", text))).output
    assert "The whole training: — FLOPs" in shown
    assert "stage text: a backward pass cannot be played on the meta device; what losses reach is not known" in shown


def test_check_shows_flops_an_item_and_of_the_training() -> None:
    shown = invoke("check", TINY).output
    head = next(line for line in shown.splitlines() if line.startswith("stage"))
    assert "FLOPs an item" in head
    assert "The whole training: 2.59 G FLOPs" in shown


def run(folder: Path, *sets: str) -> dict[str, Any]:
    words = [word for text in ("compute.device=cpu", "compute.threads=1", *sets) for word in ("--set", text)]
    result = invoke("run", TINY, "--run-dir", folder, *words)
    assert result.exit_code == 0, result.output
    recorded: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return recorded


@pytest.mark.slow
def test_a_run_records_flops_and_peak_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBLLM_BLOCK", "rehearsal")
    recorded = run(tmp_path / "run", "stages.image.steps=0", "stages.joint.steps=0")
    expected = check(tiny("stages.image.steps=0", "stages.joint.steps=0"))
    assert recorded["item_flops"] == {row.stage: row.flops for row in expected.stages}
    assert recorded["training_flops"] == 8 * 8 * recorded["item_flops"]["text"]
    memory = recorded["memory"]
    assert memory["of"] == "process (resident)"
    # torch alone is more than 50 MiB; the whole machine is less than this.
    assert 50 * 2**20 < memory["peak_bytes"] < recorded["hardware"]["memory_gib"] * 2**30
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "peak memory, process (resident)" in page


@pytest.mark.slow
def test_steps_that_an_early_stop_saves_are_not_counted(tmp_path: Path) -> None:
    # At a rate of 0 nothing gets better, so that one validation without improvement ends the stage.
    watched = ("stages.text.lr=0.0", "stages.text.validate.every=1", "stages.text.validate.patience=1")
    recorded = run(tmp_path / "run", "stages.image.steps=0", "stages.joint.steps=0", *watched)
    assert recorded["stages"][0]["done"] == 2
    assert recorded["training_flops"] == 2 * 8 * recorded["item_flops"]["text"]


@pytest.mark.slow
def test_seconds_are_probed_and_scaled(tmp_path: Path) -> None:
    base = tiny("stages.joint.steps=0")
    threads = torch.get_num_threads()
    probed = probe(base)
    assert torch.get_num_threads() == threads
    assert set(probed) == {"text", "image"}
    assert all(0 < seconds < 60 for seconds in probed.values())
    own = estimate(base, probed, base)
    assert own == pytest.approx({"text": 8 * probed["text"], "image": 6 * probed["image"]})


def test_estimates_follow_flops_and_steps() -> None:
    base, probed = tiny("stages.joint.steps=0"), {"text": 1.0, "image": 2.0}
    before, wide = flops(base), tiny("model.width=32", "stages.text.steps=4")
    after = flops(wide)
    found = estimate(wide, probed, base)
    pace = 3.0 / (before["text"] + before["image"])
    expected = {
        "text": 4 * after["text"] / before["text"],
        "image": 6 * 2.0 * after["image"] / before["image"],
        "joint": 6 * after["joint"] * pace,  # the base has no such stage
    }
    assert found == pytest.approx(expected)
    report: Report = check(wide)
    assert estimate(wide, probed, base, report, check(base)) == pytest.approx(expected)
