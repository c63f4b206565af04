"""Random edits of a recipe and of a study: each is accepted, or refused with a message and exit code 2. ``python tests/fuzz.py`` has ten thousand of them."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz import ROOT, edits, judge, words_for

#: The same edits whenever the suite is run, and nothing that is kept between runs.
FEW = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
TINY = ROOT / "tests" / "training" / "tiny.toml"
STUDY = {
    "format": 1, "name": "few", "base": str(TINY), "seeds": 2, "primary": "test/scene_exact", "scale": 0.5,
    "set": {"training.batch": 4}, "variants": {"no cycle": {"losses.cycle": False}, "wide": {"model.width": 32}},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


@FEW
@given(content=edits(tomllib.loads(TINY.read_text(encoding="utf-8"))))
def test_an_edited_recipe_is_read_or_refused(folder: Path, content: bytes) -> None:
    verdict = judge(words_for("recipe", folder, content))
    assert not verdict.wrong, verdict.wrong


@FEW
@given(content=edits(STUDY))
def test_an_edited_study_is_read_or_refused(folder: Path, content: bytes) -> None:
    verdict = judge(words_for("study", folder, content))
    assert not verdict.wrong, verdict.wrong
