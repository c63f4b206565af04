"""A virtual environment with really installed packages of strangers, each bad in its own way: built once, with pip, from wheels made here."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import attrs
import pytest

from tests import processes

from .strangers import STRANGERS, Stranger

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
#: One short stage: enough to see whose part does what.
SETS = (
    "compute.device=cpu",
    "compute.threads=1",
    "stages.text.steps=2",
    "stages.image.steps=0",
    "stages.joint.steps=0",
    "evaluation.items=4",
    "evaluation.samples=1",
    "trackers.tensorboard=false",
    "training.log_every=1",
)


@attrs.frozen
class Environment:
    """Where the packages are installed."""

    python: Path

    def command(self, *words: object, sets: tuple[str, ...] = (), cold: bool = False) -> list[str]:
        """`cold`: started as a user starts it."""
        given = [*map(str, words), *(part for key in sets for part in ("--set", key))]
        return [str(self.python), "-m", "ibllm", *given] if cold else processes.ibllm(*given, python=self.python)

    def ibllm(self, *words: object, sets: tuple[str, ...] = (), cold: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of ibllm there."""
        environment = os.environ | variables
        return subprocess.run(
            self.command(*words, sets=sets, cold=cold),
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
            check=False,
            timeout=300,
        )


def wheel(stranger: Stranger, folder: Path) -> Path:
    """A wheel as a build backend would make it."""
    info = f"{stranger.module}-{stranger.version}.dist-info"
    entries = "".join(f"{name} = {value}\n" for name, value in stranger.entries.items())
    files = {f"{stranger.module}/{name}": source for name, source in stranger.files.items()} | {
        f"{stranger.module}/__init__.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {stranger.name}\nVersion: {stranger.version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[ibllm]\n{entries}",
    }
    record = "".join(f"{name},sha256={_hash(text)},{len(text.encode())}\n" for name, text in files.items())
    path = folder / f"{stranger.module}-{stranger.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(name, text)
    return path


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that has all that this one has, and every stranger."""
    folder = tmp_path_factory.mktemp("strangers")
    venv.create(folder / "env", symlinks=os.name != "nt")
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    target = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env"), "platbase": str(folder / "env")}))
    ours = [entry for entry in sys.path if entry.endswith("site-packages")]
    (target / "ours.pth").write_text("".join(f"import site; site.addsitedir({entry!r})\n" for entry in ours))
    wheels = [str(wheel(stranger, folder)) for stranger in STRANGERS]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*pip, *wheels], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Environment(python)
