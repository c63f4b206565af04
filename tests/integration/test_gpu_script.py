"""All of tests/benchmarks/gpu.py as a user starts it, at tiny sizes on the CPU: it needs nothing but the installed package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def test_the_script_runs_alone_anywhere(tmp_path: Path) -> None:
    shutil.copy(SCRIPT, tmp_path)
    command = [sys.executable, "gpu.py", "--tiny", "--device", "cpu", "--json", "gpu.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts["resume"]["ok"]
    assert set(parts["steps"]["4"]) == {"text", "image", "joint"}
    assert "joint.toml, whole command" in done.stdout
