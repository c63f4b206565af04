"""``ibllm attack``: figures under attack, what a run keeps of them, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_attack.agents import Agent
from ibllm_attack.strengths import chosen, strengths
from ibllm_report.under_attack import read_attacks

from ibllm_core.errors import UserError

Shell = Callable[..., Any]


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A run that a test may write into."""
    return Path(shutil.copytree(run, tmp_path / "own"))


def figure(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["figures"] if one["name"] == name)


def test_images_are_attacked_strength_by_strength(shell: Shell, own: Path):
    said = shell("attack", own, "--image.epsilon", "64/255,8/255", "--use", "pgd", "--set", "steps=3", "--items", 4, "--json")
    assert said.code == 0, said.err
    found = said.json
    assert found["levels"] == ["0", "8/255", "64/255"]
    assert figure(found, "largest_change")["values"] == [0, 8, 64]
    changed = figure(found, "reading_changed")
    assert changed["values"][0] == 0
    low, high = changed["intervals"][0]
    assert low == 0
    assert high == pytest.approx(0.4899, abs=1e-3)  # Wilson, none of four
    assert "largest_change" not in shell("attack", own, "--text.changes", 1, "--items", 2, "--json").out


def test_a_run_keeps_what_was_found_and_its_report_shows_it(shell: Shell, own: Path):
    for epsilon in ("1/255", "16/255"):
        said = shell("attack", own, "--image.epsilon", epsilon, "--use", "noise", "--items", 2)
        assert said.code == 0, said.err
    kept = json.loads((own / "attack.json").read_text())["attacks"]
    assert [entry["levels"] for entry in kept] == [["0", "16/255"]]
    assert "Under attack" in (own / "report.html").read_text()
    assert shell("attack", own, "--use", "fgsm", "--image.epsilon", "0.1", "--items", 2).code == 0
    views = read_attacks(own)
    assert [view.levels for view in views] == [["0", "16/255"], ["0", "0.1"]]
    assert views[0].items[0].change is not None
    assert views[0].items[0].item == "0"
    assert len(views[0].plots) == 1


def test_a_broken_file_of_attacks_leaves_the_report_without(own: Path):
    (own / "attack.json").write_text('{"attacks": [{"levels": [1], "figures": [{"name": "x", "values": ["y"]}]}, 3]}')
    assert read_attacks(own) == []
    (own / "attack.json").write_text("nothing")
    assert read_attacks(own) == []


@pytest.mark.parametrize("use", ["typos", "words", "neighbours"])
def test_texts_are_attacked(shell: Shell, run: Path, tmp_path: Path, use: str):
    model = Path(shutil.copytree(run / "model", tmp_path / "model"))
    said = shell("attack", model, "--text.changes", "0,1", "--use", use, "--set", "candidates=4", "--items", 2, "--json")
    assert said.code == 0, said.err
    assert len(figure(said.json, "text_returned")["values"]) == 2
    assert all(example["text"] for example in said.json["examples"])
    own = use != "typos"
    assert any("says something of its own" in remark for remark in said.json["remarks"]) == own
    assert ("reading_changed" in said.out) != own
    assert not list(model.glob("attack*"))


def test_embeddings_are_attacked(shell: Shell, own: Path):
    said = shell("attack", own, "--embedding.epsilon", "2", "--use", "fgsm", "--items", 2, "--json")
    assert said.code == 0, said.err
    assert said.json["of"] == "embedding"
    assert said.json["against"] == "cycle"


def test_perturbed_items_are_shown_to_a_second_model(shell: Shell, own: Path, trained: Callable[..., Path]):
    other = trained("seed = 5")
    said = shell("attack", own, "--image.epsilon", "8/255", "--use", "fgsm", "--transfer", other, "--items", 2, "--json")
    assert said.code == 0, said.err
    assert len(figure(said.json, "reading_changed")["transferred"]) == 2
    assert "shown the same" in (own / "report.html").read_text()


def test_the_seed_decides_what_chance_does(shell: Shell, own: Path):
    def attacked(seed: int, folder: str) -> Any:
        words = ("--use", "noise", "--image.epsilon", "32/255", "--items", 3, "--seed", seed, "--save", folder, "--split", "train")
        assert shell("attack", own, *words).code == 0
        return np.load(Path(folder) / "images.npy")

    first = attacked(1, "a")
    assert np.array_equal(first, attacked(1, "b"))
    assert not np.array_equal(first, attacked(2, "c"))


def test_a_trained_agent_attacks(shell: Shell, own: Path, tmp_path: Path):
    agent = Agent((32, 32, 3), 48, (8,), {"of": "image", "patch": 8, "budget": 2, "stride": 1.0})
    agent.save(tmp_path / "agent.safetensors")
    said = shell("attack", own, "--agent", tmp_path / "agent.safetensors", "--image.epsilon", "8/255", "--items", 2, "--json")
    assert said.code == 0, said.err
    assert figure(said.json, "largest_change")["values"][1] <= 8
    assert said.json["use"] == "agent agent.safetensors"
    again = Agent.load(tmp_path / "agent.safetensors")
    items = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(items), agent.eval()(items))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--use", "pgdd"), "did you mean pgd?"),
        (("--image.epsilon", "1,x"), "expected numbers with commas between"),
        (("--image.epsilon", "2"), "a share of the range"),
        (("--text.changes", "1.5"), "whole numbers"),
        (("--image.epsilon", "1/255", "--text.changes", "1"), "expected one of them"),
        (("--of", "text", "--image.epsilon", "1/255"), "expected --text.changes"),
        (("--set", "step=3"), "did you mean 'steps'?"),
        (("--set", "steps"), "expected KEY=VALUE"),
        (("--set", "steps=0"), "expected >= 1"),
        (("--use", "typos"), "no attack on images; there are apgd"),
        (("--split", "tost"), "did you mean 'test'?"),
        (("--against", "agreement"), "no loss that learned a common space"),
        (("--against", "drawing"), "no attack on of"),
        (("--agent", "none.safetensors"), "cannot be read as an agent"),
        (("--agent", "a", "--use", "pgd"), "expected neither --use"),
        (("--embedding.epsilon", "1", "--save", "there"), "expected images or texts"),
        (("--transfer", "nowhere"), "there is no nowhere"),
    ],
)
def test_what_cannot_be_is_refused(shell: Shell, run: Path, words: tuple[str, ...], told: str):
    said = shell("attack", run, "--items", 2, *words)
    assert said.code == 2
    assert told in said.err


def test_fewer_items_than_asked_for_are_told(shell: Shell, own: Path):
    said = shell("attack", own, "--items", 5000, "--set", "steps=1", "--use", "noise", "--image.epsilon", "0")
    assert said.code != 0 or any("all of them are attacked" in notice for notice in said.notices)


def test_strengths_begin_with_none():
    assert [one.label for one in strengths("image", "8/255, 0.01,0")] == ["0", "0.01", "8/255"]
    assert chosen(None, {"image": None, "embedding": None, "text": "1"})[0] == "text"
    with pytest.raises(UserError, match="numbers with commas"):
        strengths("image", " , ")
