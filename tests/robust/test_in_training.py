"""Training on what an attack finds: what a stage's losses see, what it costs, what is refused, and that nothing but the recipe decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ibllm_cli.main import main

from ibllm import course
from ibllm.contracts import check
from ibllm_core.recipe import load
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training import checkpoints
from ibllm_core.training.session import Session

pytestmark = pytest.mark.usefixtures("plain_runs")

TINY = Path(__file__).with_name("tiny.toml")
RAMP = "epsilon={from=0.0,to=0.1,over=4}"


def tiny(*sets: str, perturb: str = "") -> Any:
    return load(TINY, ("training.batch=8", *([f"stages.image.perturb={perturb}"] if perturb else []), *sets))


def opened(recipe: Any, path: Path) -> tuple[Any, Any]:
    session = Session(recipe, RunDirectory(path))
    trainer = session.trainer(recipe.stages["image"])
    course.arrange(session, trainer, recipe)
    return session, trainer


def run(session: Any, trainer: Any, steps: int) -> dict[str, torch.Tensor]:
    """The weights after so many iterations."""
    feeder = session.feeder(trainer.stage, trainer.step)
    try:
        for _, batch in zip(range(steps), feeder, strict=False):
            trainer.iterate(batch)
    finally:
        feeder.close()
    return {name: p.detach().clone() for name, p in session.model.named_parameters()}


def seen(recipe: Any, path: Path, step: int = 10) -> tuple[Any, Any]:
    """A stage's batch at a step, clean and as its losses see it."""
    session, trainer = opened(recipe, path)
    trainer.go_to(step, trainer.played())
    feeder = session.feeder(trainer.stage)
    try:
        batch = feeder.make(step)[0].to(session.model.device)
    finally:
        feeder.close()
    return batch, trainer.perturbed([batch], None, None)[0]


def test_the_share_that_is_asked_for_is_perturbed_within_the_ball(tmp_path: Path) -> None:
    """ε is a part of the range, which for images is [−1, 1]: 8/255 are 8 of 255 grey levels."""
    clean, found = seen(tiny(perturb="{use='pgd',epsilon=0.0313725,share=0.5,steps=2}"), tmp_path)
    apart = (found.y - clean.y).abs().flatten(1).amax(1)
    assert (apart > 0).tolist() == [False, True] * 4
    assert float(apart.max()) <= 2 * 8 / 255 and float(apart.max()) > 1.9 * 8 / 255
    assert torch.equal(found.y_clean, clean.y) and torch.equal(found.y_perturbed, found.y)
    assert found.x is clean.x and found.x_out is clean.x_out


def test_without_replacing_losses_see_the_clean_and_have_both(tmp_path: Path) -> None:
    clean, found = seen(tiny(perturb="{use='fgsm',replace=false}"), tmp_path)
    assert torch.equal(found.y, clean.y) and not torch.equal(found.y_perturbed, clean.y)


def test_a_radius_may_grow_over_a_stage(tmp_path: Path) -> None:
    recipe = tiny(perturb=f"{{use='fgsm',{RAMP}}}")
    far = [
        float((found.y - clean.y).abs().max()) for clean, found in (seen(recipe, tmp_path / f"{step}", step) for step in (0, 1, 2, 4, 9))
    ]
    assert far == pytest.approx([0, 0.05, 0.1, 0.2, 0.2], abs=1e-5)


@pytest.mark.parametrize(
    "perturb",
    ["{use='pgd',norm='l2',epsilon=0.2,steps=2,share=0.5}", "{use='pgd',norm='l2',epsilon=0.2,steps=2,of='text',against='drawing'}"],
)
def test_micro_batches_change_nothing(perturb: str, tmp_path: Path) -> None:
    sgd = "optimizer={use='sgd',lr=0.01}"
    once, several = (run(*opened(tiny(sgd, f"training.accumulate={count}", perturb=perturb), tmp_path / f"{count}"), 3) for count in (1, 3))
    for name, value in once.items():
        torch.testing.assert_close(several[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_a_stopped_stage_goes_on_bit_for_bit(tmp_path: Path) -> None:
    recipe = tiny(perturb=f"{{use='apgd',{RAMP},steps=3,share=0.5}}")
    whole, trainer = opened(recipe, tmp_path / "whole")
    run(whole, trainer, 2)
    whole.save(2, trainer)
    kept, _ = checkpoints.newest(tmp_path / "whole" / "checkpoints")
    assert kept is not None
    wanted = run(whole, trainer, 3)
    again, resumed = opened(recipe, tmp_path / "again")
    again.restore(kept)
    resumed.restore(kept.state, kept.tensors)
    found = run(again, resumed, 3)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_an_option_that_is_called_like_one_of_the_stage_is_the_attacks_own() -> None:
    recipe = tiny("stages.image.steps=7", perturb="{use='pgd',steps=3}")
    assert recipe.stages["image"].steps == 7 and recipe.stages["image"].perturb.config.steps == 3


def test_the_passes_of_an_attack_are_counted() -> None:
    """Each step is a pass forward and back of the share: costs grow in a straight line with steps and share."""

    def flops(steps: int, share: float) -> int:
        (row,) = check(tiny("training.batch=32", perturb=f"{{use='pgd',steps={steps},share={share}}}")).stages
        assert row.flops is not None
        return row.flops

    plain, one, two, four, half = flops(1, 0.0), flops(1, 1.0), flops(2, 1.0), flops(4, 1.0), flops(4, 0.5)
    assert plain == next(iter(check(tiny("training.batch=32")).stages)).flops
    assert four - two == pytest.approx(2 * (two - one), rel=1e-3) and half - plain == pytest.approx((four - plain) / 2, rel=1e-3)
    assert one > 1.2 * plain and two > 1.2 * one


def test_clean_and_perturbed_latents_come_together(tmp_path: Path) -> None:
    """With `robust_consistency` an attack moves the latent less than without, by both of its measures."""
    apart = {}
    for of in ("", "latent", "captions"):
        loss = [f"losses.agree={{use='robust_consistency',of='{of}'}}", "stages.image.losses.agree=3.0"] if of else []
        recipe = tiny(*loss, "stages.image.losses.image_nll=0.0", perturb="{use='fgsm',epsilon=0.05,replace=false}")
        session, trainer = opened(recipe, tmp_path / f"run{of}")
        run(session, trainer, 30)
        feeder = session.feeder(trainer.stage)
        try:
            (batch,) = trainer.perturbed([feeder.make(trainer.step)[0].to(session.model.device)], None, None)
        finally:
            feeder.close()
        model = session.model.eval()
        with torch.no_grad():
            clean, attacked = (model.part("image_encoder")(y) for y in (batch.y_clean, batch.y_perturbed))
            decoder, tokens = model.part("text_decoder"), batch.x_out
            words = [decoder.logits(tokens.ids[:, :-1], tokens.mask[:, :-1], z).log_softmax(-1) for z in (clean, attacked)]
            latents = float((clean.pooled - attacked.pooled).norm() / clean.pooled.std(0).norm())
            apart[of] = latents, float(((words[0].exp() * (words[0] - words[1])).sum(-1) * tokens.mask[:, 1:]).sum())
    assert apart["latent"][0] < 0.8 * apart[""][0] and apart["captions"][1] < 0.8 * apart[""][1], apart


REFUSED = {
    "an attack that is not of what is perturbed": (
        ("stages.image.perturb={use='pgd',of='text'}",),
        '"captioning" is no attack on of = "text"',
    ),
    "no such attack": (("stages.image.perturb={use='pdg'}",), "did you mean: pgd"),
    "a radius below nought": (("stages.image.perturb={use='pgd',epsilon=-0.1}",), "expected"),
    "agreement without a space": (("stages.image.perturb={use='pgd',against='agreement'}",), "expected: space"),
    "a space that is none": (
        ("stages.image.perturb={use='pgd',against='agreement',space='text_nll'}",),
        "no loss of the stage that learns a common space",
    ),
    "one change for all": (("stages.image.perturb={use='universal'}",), "expected noise, fgsm, pgd, apgd or square"),
    "both of which there is one": (
        ("losses.agree={use='robust_consistency'}", "stages.image.losses.agree=1.0"),
        "the stage perturbs none",
    ),
    "questions that the data do not ask": (("stages.image.perturb={use='pgd',against='answers'}",), "pgd needs data.questions"),
    "nothing to take away": (("stages.image.perturb=false",), "nothing to remove"),
}


@pytest.mark.parametrize(("sets", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_refused_before_anything_is_spent(
    sets: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(TINY), *(word for one in sets for word in ("--set", one))]) == 2
    shown = capsys.readouterr().err
    assert message in " ".join(shown.split()) and "Traceback" not in shown


def test_a_recipe_that_says_nothing_is_what_it_was(tmp_path: Path) -> None:
    """Keys of runs and studies stay: the table is left out where there is none, or where it is taken away."""
    from ibllm.resolved import resolved

    assert "perturb" not in resolved(tiny())["stages"]["image"]
    (tmp_path / "hard.toml").write_text(f'extends = "{TINY}"\n[stages.image]\nperturb = {{ use = "fgsm" }}\n', encoding="utf-8")
    assert load(tmp_path / "hard.toml", ["stages.image.perturb=false"]).stages == load(TINY).stages
    assert resolved(tiny(perturb="{use='fgsm'}"))["stages"]["image"]["perturb"]["use"] == "fgsm"
