"""The resolved text of a recipe reads back to the same recipe; what differs is found by meaning, not by looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ibllm_cli.main import main
from ibllm_inspect.differences import differences

from ibllm.resolved import resolved
from ibllm_core.host.manager import Manager
from ibllm_core.recipe import RecipeErrors, load

BASE = Path(__file__).parent / "bad" / "base.toml"

OVERRIDES: list[st.SearchStrategy[str]] = [
    st.integers(0, 99).map("seed={}".format),
    st.integers(0, 99).map("seed.init={}".format),
    st.text(min_size=1, max_size=8).map(lambda text: "name=" + text),
    st.integers(1, 3).map(lambda n: f"model.width={4 * n}"),
    st.sampled_from(
        [
            "model.text_encoder.use=lstm",
            "optimizer.use=sgd",
            'data.languages=["zh", "en"]',
            "optimizer.lr=1e-30",
            "losses.adversarial=false",
        ]
    ),
    st.integers(1, 99).map("losses.joint.lambda={{ to = {}, over = 3 }}".format),
    st.floats(0.1, 9).map("stages.joint.losses.joint={}".format),
    st.just(
        "stages.image.losses={ text_nll = { to = 1.0, over = 123456789 }, image_nll = 1.0, adversarial = { to = 1, over = 12345 }, penalty = 1 }"
    ),
    st.integers(0, 9).map("stages.text.steps={}".format),
    st.just('stages.text.validate={ every = 3, mode = "min", plateau = {} }'),
    st.just('stages.joint.schedule={ use = "cosine", warmup = 2 }'),
    st.just('init={ run = "runs/a \\"b\\"", parts = ["text_encoder"] }'),
    st.just('players.critic.optimizer={ use = "adam", betas = [0.0, 0.9] }'),
    st.just("stages.joint.losses.penalty=false"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sets=st.lists(st.one_of(OVERRIDES), max_size=6))
def test_the_source_reads_back_to_an_equal_recipe(sets: list[str], stranger: Manager, tmp_path: Path) -> None:
    try:
        recipe = load(BASE, sets, manager=stranger)
    except RecipeErrors:
        return
    again = tmp_path / "recipe.toml"
    again.write_text(recipe.source, encoding="utf-8", newline="\n")
    back = load(again, manager=stranger)
    assert back == recipe
    assert back.source == recipe.source
    assert resolved(back) == resolved(recipe)
    assert differences(recipe, back) == []
    assert {name: list(stage.losses) for name, stage in back.stages.items()} == {
        name: list(stage.losses) for name, stage in recipe.stages.items()
    }


def test_the_source_stands_alone(stranger: Manager, tmp_path: Path) -> None:
    child = tmp_path / "child.toml"
    child.write_text(f'extends = "{BASE.as_posix()}"\n[losses]\npenalty = false\n')
    source = load(child, manager=stranger).source
    assert "extends" not in source and "penalty" not in source
    assert 'name = "child"' in source


def diff(capsys: pytest.CaptureFixture[str], *args: Any) -> list[str]:
    assert main(["diff", *map(str, args)]) == 0
    return capsys.readouterr().out.splitlines()


def test_what_only_looks_different_is_no_difference(stranger: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = tmp_path / "base.toml"
    same.write_text(f'extends = "{BASE.as_posix()}"\nseed = {{ init = 0 }}\n[model.text_encoder]\nwidth = 64\n[training]\nbatch = 64\n')
    assert diff(capsys, BASE, same) == ["no difference once resolved"]


def test_each_difference_takes_a_line(stranger: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    sets = (
        "model.width=32",
        "losses.penalty=false",
        "stages.text.steps=10",
        "losses.joint.lambda={ to = 2, over = 4 }",
        "optimizer.use=sgd",
    )
    sgd = "sgd { lr = 0.1, momentum = 0.0, nesterov = false, weight_decay = 0.0 }"
    adamw = "adamw { lr = 0.001, betas = [0.9, 0.999], eps = 1e-08, amsgrad = false, weight_decay = 0.01 }"
    assert diff(capsys, BASE, BASE, *(word for text in sets for word in ("--set", text))) == [
        "model.width: 64 → 32",
        "model.text_encoder.width: 64 → 32",
        "model.image_decoder.latent: 64 → 32",
        "model.image_decoder.width: 64 → 32",
        "model.image_encoder.width: 64 → 32",
        "model.text_decoder.latent: 64 → 32",
        "model.text_decoder.width: 64 → 32",
        "model.discriminator.latent: 64 → 32",
        "losses.joint.lambda: 1.0 → { from = 0.0, to = 2.0, over = 4 }",
        'losses.penalty: removed: gradient_penalty { weight = 1.0, every = 4, of = "drawing", gamma = 1.0, at = ["real", "generated"], by = "image" }',
        f"players.model.optimizer: {adamw} → {sgd}",
        f"players.critic.optimizer: {adamw} → {sgd}",
        "stages.text.steps: 9 → 10",
        "stages.image.losses.penalty: removed: 1.0",
        "stages.joint.losses.penalty: removed: 1.0",
    ]


def test_run_directories_can_be_compared(stranger: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.toml").write_text(load(BASE, ["seed=4"], manager=stranger).source)
    assert diff(capsys, tmp_path, BASE) == ["seed.init: 4 → 0", "seed.data: 4 → 0", "seed.evaluation: 4 → 0"]
