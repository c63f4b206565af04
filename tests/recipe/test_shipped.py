"""The recipes that come with the package: each fits together, and between them they use every component there is."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
import pytest
from ibllm_cli.main import main
from ibllm_study.checking import check_arms
from ibllm_study.plan import Plan, make_plan
from ibllm_study.study_file import read_study
from safetensors.torch import save_file

from ibllm.contracts import Report
from ibllm_core.host.manager import manager
from ibllm_core.host.spec import KINDS
from ibllm_core.model import build
from ibllm_core.recipe import load

RECIPES = Path(__file__).parents[2] / "recipes"
#: Study → its file, within the recipes: one names its base.
FILES = {
    path.stem: path.relative_to(RECIPES) for path in sorted(RECIPES.rglob("*.toml")) if "\nbase = " in path.read_text(encoding="utf-8")
}
STUDIES = sorted(FILES)
ALL = sorted(path.relative_to(RECIPES).as_posix() for path in RECIPES.rglob("*.toml") if path.relative_to(RECIPES) not in FILES.values())
#: Grids of many arms, each of which takes the budget's search.
GRIDS = [name for name in STUDIES if name.startswith("composition")]
#: Studies that are planned before a release only: each costs what a dozen recipes cost.
LARGE = [*GRIDS, "emoji_styles", "factors", "gan_zoo", "one_or_two", "open", "open_cells", "priors", "priors_emoji", "unpaired"]
FAMILIES = ("attngan", "flow", "latent_flow", "lstm_cnn", "maskgit", "pretrained_text", "transformer_gan", "vq_transformer")
#: Components that a shipped recipe cannot use, and why.
ELSEWHERE = {
    ("dataset", "files"): "it reads the user's own files",
    ("perturbation", "square"): "it asks for hundreds of passes, for a measurement and not for a training; docs/how-to/attack.md",
    ("perturbation", "universal"): "it changes all items of a set alike, and a stage's batch comes in shares",
    ("dataset", "webdataset"): "it reads shards of the user's own",
    ("image_tokenizer", "pretrained"): "no package carries a codec of diffusers; a folder is the user's own",
    ("metric", "clip_score"): "no package carries a pair like CLIP",
    ("backbone", "unified_pretrained"): "no package carries a causal language model; a folder is the user's own",
    ("metric", "text_perplexity"): "of what such a model knew before",
    ("perturbation", "neighbours"): "ibllm attack uses it on trained models",
    ("perturbation", "typos"): "ibllm attack uses it on trained models",
    ("perturbation", "words"): "ibllm attack uses it on trained models",
    ("schedule", "piecewise"): "`ibllm knob --as-recipe` writes it",
    ("tracker", "mlflow"): "its store is the user's own",
}
#: Recipes that name the user's own folders; tests/pretrained makes some for them.
FOLDERS = ("llm/llava.toml",)
#: Overrides that train next to nothing.
SHORT = ["training.batch=4", "evaluation.items=4", "evaluation.samples=2", "compute.threads=1"]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes, beside data that they read: what of emoji_styles the tests have, and two items as an attack leaves them."""
    folder = Path(shutil.copytree(RECIPES, tmp_path_factory.mktemp("shipped") / "recipes"))
    (folder / "emoji").symlink_to(RECIPES.parent / "tests" / "emoji" / "archives")
    attacked = folder / "adversarial" / "attacked"
    attacked.mkdir()
    about = {
        "use": "noise",
        "strength": "2/255",
        "split": "train",
        "captions": ["a", "b"],
        "languages": None,
        "questions": None,
        "answers": None,
    }
    (attacked / "attacked.json").write_text(json.dumps(about), encoding="utf-8")
    np.save(attacked / "images.npy", np.zeros((2, 32, 32, 3), np.uint8))
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a recipe that takes weights from a run of joint.toml expects below the working directory; they are untrained."""
    folder = tmp_path_factory.mktemp("teacher")
    model = folder / "runs" / "joint" / "model"
    model.mkdir(parents=True)
    recipe = load(RECIPES / "joint.toml")
    built = build.build_model(recipe, build.build_tokenizers(recipe, [build.build_dataset(recipe)]), build.image_shape(recipe))
    save_file({name: tensor.contiguous() for name, tensor in built.state_dict().items()}, model / "weights.safetensors")
    (model.parent / "recipe.toml").write_text((RECIPES / "joint.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def beside_a_teacher(teacher: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(teacher)


@pytest.mark.parametrize("name", [name for name in ALL if name not in FOLDERS])
def test_recipe_fits_together(name: str, recipes: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", str(recipes / name)]) == 0
    assert "no mistakes; the parts fit" in capsys.readouterr().out


@pytest.mark.parametrize("name", ALL)
def test_recipe_is_named_like_its_file(name: str, recipes: Path):
    assert load(recipes / name, recorded=name in FOLDERS).name == Path(name).stem


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_there(family: str):
    assert f"families/{family}.toml" in ALL


def test_the_studies_are_there():
    grids = ["composition", "composition_counting", "composition_relations", "composition_short", "composition_sizes"]
    assert grids == GRIDS
    assert [name for name in STUDIES if name not in grids] == [
        "attention",
        "emoji_styles",
        "factors",
        "gan_zoo",
        "image_decoders",
        "lambda",
        "latents",
        "losses",
        "one_or_two",
        "open",
        "open_cells",
        "places",
        "priors",
        "priors_emoji",
        "stages",
        "text_encoders",
        "tokens",
        "unpaired",
    ]


@functools.cache
def planned(name: str, recipes: Path) -> tuple[Plan, Mapping[str, Report]]:
    """A study with one seed, and what the walk of each arm said."""
    plan = make_plan(read_study(recipes / FILES[name], seeds=1))
    return plan, check_arms(plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.release] if name in LARGE else []) for name in STUDIES])
def test_study_can_be_planned(name: str, recipes: Path):
    plan, reports = planned(name, recipes)
    if plan.study.table.budget is not None:
        flops = [reports[arm.name].training_flops(plan.cell(arm.name, 0).recipe) for arm in plan.arms]
        assert max(flops) / min(flops) < 1.1


@pytest.mark.parametrize("name", GRIDS)
def test_every_family_and_every_end_of_a_grids_axes_is_a_recipe(name: str):
    """Without the budget, which is sought for every arm in a release's tests."""
    study = read_study(RECIPES / FILES[name], seeds=1)
    own = load(study.base).data.config
    ends = tuple(
        attrs.evolve(axis, values=tuple(v for v in (axis.values[0], axis.values[-1]) if v != getattr(own, axis.key.split(".")[1])))
        for axis in study.axes
    )
    found = make_plan(attrs.evolve(study, axes=ends, table=attrs.evolve(study.table, budget=None, design="one-at-a-time")))
    assert {arm.name for arm in found.arms} >= {variant.name for variant in study.variants}
    assert study.table.budget is not None
    assert all(len(axis.values) >= 2 for axis in study.axes)


@pytest.mark.parametrize(("name", "count"), [("open", 6), ("open_cells", 6), ("factors", 8), ("gan_zoo", 11), ("priors", 12)])
def test_every_arm_of_a_large_study_is_a_recipe(name: str, count: int):
    """Without the budget, as above."""
    study = read_study(RECIPES / FILES[name], seeds=1)
    assert len(make_plan(attrs.evolve(study, table=attrs.evolve(study.table, budget=None))).arms) == count


@pytest.mark.slow
def test_the_arms_of_the_study_of_stages_cost_the_same(recipes: Path):
    plan, reports = planned("stages", recipes)
    flops = {name: report.training_flops(plan.cell(name, 0).recipe) for name, report in reports.items()}
    assert {name: round(value / flops["base"], 2) for name, value in flops.items() if name != "no critic, as long"} == {
        name: pytest.approx(1.0, abs=0.02) for name in flops if name != "no critic, as long"
    }


def test_every_component_is_used_by_a_recipe(recipes: Path):
    used = {(c.kind, c.use) for name in ALL for c in load(recipes / name, recorded=name in FOLDERS).components().values()}
    ours = {(kind, name) for kind in KINDS for name in manager().names(kind) if manager().origin(kind, name).distribution == "ibllm"}
    assert ours - used == set(ELSEWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vq_transformer", "attngan"])
def test_family_runs(family: str, tmp_path: Path):
    path = RECIPES / "families" / f"{family}.toml"
    steps = [f"stages.{stage.name}.steps=3" for stage in load(path).running()]
    quiet = [f"stages.{stage.name}.validate.items=4" for stage in load(path).running() if stage.validate is not None]
    overrides = [word for value in [*SHORT, *steps, *quiet] for word in ("--set", value)]
    assert main(["run", str(path), "--run-dir", str(tmp_path / "run"), *overrides]) == 0
    for leaves in ("results.json", "report.html", "model/weights.safetensors"):
        assert (tmp_path / "run" / leaves).is_file()
