"""What a part lacks may be an option away: the message says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibllm_core.host.manager import Manager
from ibllm_core.recipe import load
from ibllm_core.recipe.locate import RecipeErrors

BASE = Path(__file__).parent / "bad" / "base.toml"


def expected(stranger: Manager, loss: str, *sets: str) -> str:
    """What is expected instead of the one thing that is wrong with the base recipe and this loss."""
    more = (f'losses.more.use="{loss}"', "stages.text.losses={ image_nll = 1.0, more = 1.0 }", *sets)
    with pytest.raises(RecipeErrors) as raised:
        load(BASE, more, manager=stranger)
    (line,) = (line for line in str(raised.value).splitlines() if "expected:" in line)
    return line.strip()


def test_an_option_of_the_part_that_is_there(stranger: Manager) -> None:
    assert expected(stranger, "mode_seeking", "model.image_decoder.noise=0") == "expected: model.image_decoder.noise > 0"


def test_an_option_of_another_part(stranger: Manager) -> None:
    assert '"attngan" (augmentation > 0)' in expected(stranger, "kl")


def test_data_that_could_ask(stranger: Manager) -> None:
    found = expected(stranger, "answer_nll", 'stages.text.train=["image_encoder", "text_decoder", "text_encoder", "image_decoder"]')
    assert "data.questions = true" in found
