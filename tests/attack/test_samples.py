"""The dataset `attacks`: what an attack left, among the data it is of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ibllm
from ibllm_core.model import build
from ibllm_core.recipe import load

Shell = Callable[..., Any]
RECIPE = 'format = 1\nextends = "{base}"\nname = "hardened"\n[data]\nuse = "attacks"\npath = "{path}"\nshare = {share}\nof = {{ use = "shapes" }}\n'


@pytest.fixture
def saved(shell: Shell, run: Path, tmp_path: Path) -> Callable[..., Path]:
    """``saved("--text.changes", 1)``: a recipe whose data are three items that were attacked so, half of its training items."""

    def attack(*words: object, split: str = "train", share: float = 0.5) -> Path:
        model = Path(shutil.copytree(run, tmp_path / "run", dirs_exist_ok=True))
        said = shell("attack", model, *words, "--items", 3, "--split", split, "--save", tmp_path / "attacked", "--overwrite")
        assert said.code == 0, said.err
        recipe = tmp_path / "hardened.toml"
        base = Path(__file__).parents[1] / "use" / "tiny.toml"
        recipe.write_text(RECIPE.format(base=base, path="attacked", share=share))
        return recipe

    return attack


def test_attacked_images_stand_among_the_training_items(saved: Callable[..., Path], run: Path, tmp_path: Path):
    recipe = load(saved("--use", "noise", "--image.epsilon", "16/255"))
    assert recipe.data.config.splits().keys() == {*ibllm.open(run).recipe.data.config.splits(), "clean"}
    data, clean = build.build_dataset(recipe), ibllm.open(run).dataset
    images = np.load(tmp_path / "attacked" / "images.npy")
    places = np.arange(8)
    found, own = data.samples("train", places), clean.samples("train", places)
    for place in range(8):
        if place % 2:  # the attacked ones, one after the other and again
            number = place // 2 % 3
            assert found.captions[place] == own.captions[number]
            np.testing.assert_array_equal(found.images[place], images[number])
        else:
            assert found.captions[place] == own.captions[place]
            np.testing.assert_array_equal(found.images[place], own.images[place])
    assert np.abs(images.astype(int) - own.images[:3]).max() == 16
    alone = data.samples("train", np.array([3]))
    np.testing.assert_array_equal(alone.images[0], found.images[3])
    np.testing.assert_array_equal(data.samples("test", places).images, clean.samples("test", places).images)
    assert data.sizes() == {**clean.sizes(), "clean": clean.sizes()["train"]}
    np.testing.assert_array_equal(data.samples("clean", places).images, own.images)
    assert "3 attacked ones, by noise" in data.notes()[0]


def test_attacked_captions_stand_beside_their_images(saved: Callable[..., Path], run: Path):
    data = build.build_dataset(load(saved("--text.changes", "1", "--set", "candidates=2", share=1.0)))
    found, own = data.samples("train", np.arange(3)), ibllm.open(run).dataset.samples("train", np.arange(3))
    assert all(a != b for a, b in zip(found.captions, own.captions, strict=True))
    np.testing.assert_array_equal(found.images, own.images)
    assert data.corpus(limit=3) == list(own.captions)


def test_a_recipe_with_attacked_items_is_checked_and_run(saved: Callable[..., Path], shell: Shell, tmp_path: Path):
    recipe = saved("--use", "noise", "--image.epsilon", "16/255")
    said = shell("run", recipe)
    assert said.code == 0, said.err
    again = ("--use", "noise", "--image.epsilon", "16/255", "--items", 2, "--split", "clean", "--save", tmp_path / "attacked-again")
    assert shell("attack", tmp_path / "runs" / "hardened", *again).code == 0
    recipe.write_text(recipe.read_text().replace('"attacked"', '"attacked-again"'))
    assert shell("check", recipe).code == 0
    told = json.loads((tmp_path / "runs" / "hardened" / "run.json").read_text())
    assert "attacked ones" in json.dumps(told)


def test_a_recipe_opens_without_the_folder_and_is_not_run(saved: Callable[..., Path], shell: Shell, tmp_path: Path):
    recipe = saved("--use", "noise", "--image.epsilon", "16/255")
    shutil.rmtree(tmp_path / "attacked")
    assert load(recipe, recorded=True).data.use == "attacks"
    said = shell("check", recipe)
    assert said.code == 2
    assert "ibllm attack RUN --split train --save FOLDER" in said.err


@pytest.mark.parametrize("of", ['{ use = "shape" }', "{ size = 32 }", '{ use = "shapes", siz = 32 }', '{ use = "shapes", size = 3 }'])
def test_data_that_are_none_are_refused(saved: Callable[..., Path], shell: Shell, of: str):
    recipe = saved("--use", "noise", "--image.epsilon", "16/255")
    recipe.write_text(recipe.read_text().replace('{ use = "shapes" }', of))
    said = shell("check", recipe)
    assert said.code == 2
    assert "data.of" in said.err


def test_what_a_run_is_measured_on_is_not_trained_on(saved: Callable[..., Path], shell: Shell):
    said = shell("check", saved("--use", "noise", "--image.epsilon", "16/255", split="test"))
    assert said.code == 2
    assert "attack with --split train" in said.err


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("attacked.json", None, "ibllm attack RUN --split train --save FOLDER"),
        ("attacked.json", "[]", "can be read"),
        ("images.npy", "x", "can be read"),
    ],
)
def test_a_broken_folder_is_refused(saved: Callable[..., Path], shell: Shell, tmp_path: Path, name: str, content: str | None, told: str):
    recipe, file = saved("--use", "noise", "--image.epsilon", "16/255"), tmp_path / "attacked" / name
    file.unlink() if content is None else file.write_text(content)
    said = shell("run", recipe)
    assert said.code == 2
    assert told in said.err
