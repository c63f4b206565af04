"""What a study file may say, and what is said of one that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ibllm_study.plan import Plan, make_plan
from ibllm_study.study_file import arms, read_study
from ibllm_testing.fixtures import run_command

from ibllm_core.errors import UserError
from ibllm_core.recipe.locate import Scheduled

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


def plan_of(path: Path) -> Plan:
    return make_plan(read_study(path))


def mistake(path: Path) -> str:
    with pytest.raises(UserError) as found:
        plan_of(path)
    return str(found.value)


def test_one_at_a_time_has_the_base_each_variant_and_each_value(write_study) -> None:  # type: ignore[no-untyped-def]
    plan = plan_of(
        write_study("""
[variants]
"no cycle" = { "losses.cycle" = false }
"LSTM text" = { "model.text_encoder" = { use = "lstm", width = 16 } }
[axes]
"stages.joint.steps" = [0, 2]
losses.joint.lambda = [0.0]
""")
    )
    names = ["base", "no cycle", "LSTM text", "stages.joint.steps = 0", "stages.joint.steps = 2", "losses.joint.lambda = 0.0"]
    assert [arm.name for arm in plan.arms] == names
    assert [(cell.arm.name, cell.seed) for cell in plan.cells] == [(name, seed) for seed in (0, 1) for name in names]
    assert "cycle" not in plan.cell("no cycle", 0).recipe.losses
    assert plan.cell("LSTM text", 1).recipe.parts["text_encoder"].use == "lstm"
    assert plan.cell("LSTM text", 1).recipe.seed.init == 1
    assert [stage.name for stage in plan.cell("stages.joint.steps = 0", 0).recipe.running()] == ["text", "image"]
    assert len({cell.id for cell in plan.cells}) == len(plan.cells)


def test_a_grid_is_the_product_and_the_base_is_the_point_that_equals_it(write_study) -> None:  # type: ignore[no-untyped-def]
    plan = plan_of(
        write_study("""
design = "grid"
[variants]
"no cycle" = { "losses.cycle" = false }
[axes]
"losses.joint.lambda" = [0.5, 1.0]
"stages.joint.steps" = [4, 6]
""")
    )
    assert len(plan.arms) == 8, "2 × 2 × (base, no cycle), one of which is the base"
    assert "no cycle, losses.joint.lambda = 1.0, stages.joint.steps = 4" in [arm.name for arm in plan.arms]


def test_seeds_may_be_named(write_study) -> None:  # type: ignore[no-untyped-def]
    assert read_study(write_study("", seeds=[3, 7])).seeds == (3, 7)
    assert read_study(write_study("", seeds=3)).seeds == (0, 1, 2)
    assert read_study(write_study("", seeds=3), seeds=1).seeds == (0,)


def test_the_scale_takes_everything_that_is_counted_in_steps_along(write_study) -> None:  # type: ignore[no-untyped-def]
    rest = """
scale = 0.5
[set]
"schedule" = { use = "linear", warmup = 4 }
"stages.joint.losses.cycle" = { from = 0.0, to = 0.1, over = 4 }
"training.clip" = { use = "piecewise", at = [0, 1, 4], values = [1.0, 0.5, 0.2] }
[variants]
"more reading" = { "stages.image.steps" = 12 }
"""
    plan = plan_of(write_study(rest))
    stages = plan.base.stages
    assert {name: stage.steps for name, stage in stages.items()} == {"text": 4, "image": 3, "joint": 3}
    assert stages["text"].validate is not None
    assert stages["text"].validate.every == 2
    assert stages["joint"].schedule.config.warmup == 2  # type: ignore[attr-defined]
    number = stages["joint"].losses["cycle"]
    assert isinstance(number, Scheduled)
    assert number.schedule.config.over == 2  # type: ignore[attr-defined]
    clip = stages["text"].training.clip
    assert isinstance(clip, Scheduled)
    assert clip.schedule.config.at == (0, 1, 2)  # type: ignore[attr-defined]
    assert plan.cell("more reading", 0).recipe.stages["image"].steps == 6


def test_every_run_has_the_studys_threads(write_study) -> None:  # type: ignore[no-untyped-def]
    assert plan_of(write_study("")).base.compute.threads == 1
    assert plan_of(write_study("threads = 2\n")).base.compute.threads == 2


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ('[axes]\n"stages.joint.steps" = [6]', ["study.toml:7", "changes nothing", "it is the base"]),
        (
            '[variants]\na = { "losses.cycle" = false }\nb = { "stages.joint.losses.cycle" = false, "losses.cycle" = false }',
            ["study.toml:8", "'b' and 'a' are the same"],
        ),
        ('[variants]\na = { "losses.cycel" = false }', ["study.toml:7", "losses.cycel", "did you mean: cycle", "in the arm 'a'"]),
        ('[variants]\na = { "model.text_encoder" = { use = "lstn" } }', ["study.toml:7", 'no text_encoder is called "lstn"']),
        ('[variants]\nbase = { "losses.cycle" = false }', ["study.toml:7", "is the name of the base recipe itself"]),
        ("[variants]\na = 3", ["study.toml:7", "is no variant"]),
        ('[variants]\na = { "seed" = 3 }', ["study.toml:7", '"seed" cannot be changed by a study']),
        ('[axes]\n"losses.joint.lambda" = 0.5', ["study.toml:7", "is no axis", "a list of values"]),
        ('desing = "grid"', ["study.toml:5", "unknown key", "did you mean: design"]),
        ('design = "grid"', ["study.toml:5", "a grid needs axes"]),
        ('design = "grid"\n[axes]\n"stages.joint.steps" = [2]', ["study.toml:7", "changes nothing"]),
        ('design = "search"\n[axes]\n"optimizer.lr" = { low = 1e-4, high = 1e-2 }', ["study.toml:5", "search = { trials"]),
        (
            'design = "search"\nsearch = { trials = 2 }\n[axes]\n"optimizer.lr" = { low = 1e-2, high = 1e-4 }',
            ["study.toml:8", "expected: less than high"],
        ),
        ('[set]\n"seed.init" = 3', ["study.toml:7", '"seed.init" cannot be changed by a study', "the study's own `seeds`"]),
        ('[axes]\n"losses.joint.lambda" = [0.0, 0.0]', ["study.toml:7", "a value is there twice"]),
        ('design = "grid"\n[axes]\n"losses.joint.lambda" = [0.5, 0.5]', ["study.toml:7", "a value is there twice"]),
        (
            '[variants]\na = { "metrics.scene" = false }',
            ["study.toml:7", "'a' does not give novel/scene_exact, by which the study decides"],
        ),
        ('[variants]\na = { "evaluation.splits" = ["test"] }', ["study.toml:7", "'a' does not give novel/scene_exact"]),
        ("scale = 0", ["study.toml:5", "scale", "out of range"]),
        ("seeds = [1, 1]", ["study.toml", "Cannot overwrite"]),
    ],
)
def test_mistakes_are_told_with_their_line(write_study, rest: str, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    said = mistake(write_study("\n" + rest if rest.startswith("[") else rest))
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("primary", "words"),
    [
        ("novel/scene_exakt", ['no metric of the base gives "scene_exakt"', "did you mean: scene_exact"]),
        ("nowel/scene_exact", ["names no split that the base reports", "did you mean: novel"]),
        ("scene_exact", ["names no split"]),
    ],
)
def test_the_primary_figure_is_one_the_base_reports(tmp_path: Path, write_study, primary: str, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    path = write_study("")
    path.write_text(path.read_text().replace("novel/scene_exact", primary))
    said = mistake(path)
    assert "study.toml:4" in said
    assert all(word in said for word in words), said


def test_all_mistakes_of_all_arms_at_once(write_study) -> None:  # type: ignore[no-untyped-def]
    said = mistake(write_study('\n[variants]\na = { "losses.cycel" = false }\nb = { "stages.joint.stepps" = 3 }\n'))
    assert "in the arm 'a'" in said
    assert "in the arm 'b'" in said
    assert "2 mistakes" in said


def test_no_such_base(write_study) -> None:  # type: ignore[no-untyped-def]
    path = write_study("")
    path.write_text(path.read_text().replace("tiny.toml", "tinny.toml"))
    said = mistake(path)
    assert "study.toml:2: base: no such file" in said
    assert "did you mean: tiny.toml" in said


def test_the_arms_names_make_file_names(write_study) -> None:  # type: ignore[no-untyped-def]
    rest = '[variants]\n"λ = 0, no/cycle" = { "losses.joint.lambda" = 0.0, "losses.cycle" = false }\n'
    (arm,) = [arm for arm in arms(read_study(write_study(rest))) if arm.changes]
    assert arm.slug == "lambda-0-no-cycle"


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_study_that_is_taken_for_a_recipe_is_named_as_one(write_study, command: str) -> None:  # type: ignore[no-untyped-def]
    file = write_study('[axes]\n"losses.joint.lambda" = [0.0]\n')
    done = run_command(command, file)
    assert done.code == 2
    assert f"{file}:2: base: this is a study, no recipe" in done.stderr
    assert f"hint: ibllm ablate {file}" in done.stderr
    assert "1 mistake" in done.stderr


def test_a_recipe_that_is_taken_for_a_study_is_named_as_one(tmp_path: Path) -> None:
    done = run_command("ablate", TINY, "--study-dir", tmp_path / "out")
    assert done.code == 2
    assert "this is a recipe, no study" in done.stderr
    assert f"hint: ibllm run {TINY}" in done.stderr
    assert "1 mistake" in done.stderr


def test_recipes_and_studies_are_told_apart() -> None:
    shown = run_command("recipes", "ibllm").stdout.splitlines()
    studies = {line.split()[0] for line in shown if line.split()[1] == "study:"}
    assert studies == {line.split()[0] for line in shown if line.startswith("ibllm:ablations/")} | {"ibllm:adversarial/gan_zoo"}
    kinds = {row["address"]: row["kind"] for row in json.loads(run_command("recipes", "ibllm", "--json").stdout)}
    assert (kinds["ibllm:small"], kinds["ibllm:ablations/lambda"]) == ("recipe", "study")


@pytest.mark.parametrize(
    ("figure", "said", "mode"),
    [("diversity", "", ""), ("residual", "", "min"), ("residual", 'mode = "max"', "max"), ("scene_exact", "", "max")],
)
def test_whether_more_is_better_follows_the_metric(tmp_path: Path, write_study, figure: str, said: str, mode: str) -> None:  # type: ignore[no-untyped-def]
    path = write_study(f"""
{said}
[set]
"metrics.diversity" = {{ use = "diversity" }}
"metrics.residual" = {{ use = "residual" }}
[variants]
"no cycle" = {{ "losses.cycle" = false }}
""")
    path.write_text(path.read_text().replace("novel/scene_exact", f"novel/{figure}"))
    if mode:
        assert plan_of(path).mode == mode
    else:
        told = mistake(path)
        assert 'does not say whether more of "diversity" is better' in told
        assert 'mode = "max" or "min"' in told


def test_all_mistakes_are_told_at_once(write_study) -> None:  # type: ignore[no-untyped-def]
    """An unknown key hides no wrong primary, a wrong type no wrong key of a variant, a broken arm no figure that there is not."""
    path = write_study(
        """
sedes = 3
[variants]
"no cycle" = { "losses.cycel" = false }
"too wide" = { "model.text_encoder.width" = "wide" }
"nothing" = 3
[axes]
"stages.joint.stepz" = [1, 2]
""",
        seeds='"two"',
    )
    path.write_text(path.read_text(encoding="utf-8").replace("scene_exact", "scene_exat"), encoding="utf-8")
    said = mistake(path)
    for part in (
        "sedes: unknown key",
        "seeds",
        "losses.cycel",
        "wide",
        "is no variant",
        "stepz",
        'no metric of the base gives "scene_exat"',
    ):
        assert part in said, part


def test_a_broken_arm_hides_no_wrong_primary(write_study) -> None:  # type: ignore[no-untyped-def]
    path = write_study('[variants]\n"no cycle" = { "losses.cycel" = false }')
    path.write_text(path.read_text(encoding="utf-8").replace("scene_exact", "scene_exat"), encoding="utf-8")
    said = mistake(path)
    assert "losses.cycel" in said and 'no metric of the base gives "scene_exat"' in said
