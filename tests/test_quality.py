"""The tools that keep the code's style, types, boundaries and documentation, run as tests so that one command proves all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent


def clean(*command: str) -> None:
    """Runs a tool in the repository; its output is the failure's message."""
    done = subprocess.run([str(TOOLS / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_style():
    clean("ruff", "check", "--output-format", "concise")


def test_formatting():
    clean("ruff", "format", "--check")


def test_boundaries():
    clean("python", "tests/boundaries.py")


@pytest.mark.slow
def test_types():
    clean("mypy")


@pytest.mark.slow
def test_documentation_builds_without_a_warning(tmp_path):
    clean("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "-d", str(tmp_path / "doctrees"), "docs", str(tmp_path / "html"))


def test_ci_runs_the_readmes_test_command():
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "-m pytest" in line]
    assert len(lines) == 1
    assert lines[0].strip().startswith("python3 -m venv .venv && ")
