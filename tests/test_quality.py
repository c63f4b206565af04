"""The tools that keep the code's style, types, boundaries and documentation, run as tests so that one command proves all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import beside

ROOT = Path(__file__).parents[1]


def test_style(beside_folder):
    beside.wait(beside_folder, "test_style")


def test_formatting(beside_folder):
    beside.wait(beside_folder, "test_formatting")


def test_boundaries(beside_folder):
    beside.wait(beside_folder, "test_boundaries")


@pytest.mark.slow
def test_types(beside_folder):
    beside.wait(beside_folder, "test_types")


@pytest.mark.slow
def test_documentation_builds_without_a_warning(beside_folder):
    beside.wait(beside_folder, "test_documentation_builds_without_a_warning")


def test_ci_runs_the_readmes_test_command():
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "-m pytest" in line]
    assert len(lines) == 1
    assert lines[0].strip().startswith("python3 -m venv .venv && ")
