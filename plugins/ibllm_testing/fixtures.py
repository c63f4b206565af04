"""A pytest plugin for those who ask for it: ``-p ibllm_testing.fixtures``, or ``pytest_plugins = ["ibllm_testing.fixtures"]``.

It registers the marker `slow`, and offers fixtures; nothing is done for a test that names none of them.

Example, how a package of yours is used on the command line::

    def test_it_trains(ibllm_command, ibllm_tiny_recipe, tmp_path):
        ran = ibllm_command("run", ibllm_tiny_recipe, "--run-dir", tmp_path / "run", "--set", "model.text_encoder.use=pile")
        assert ran.code == 0, ran.stderr
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from ibllm_core.host import manager as plugins
from ibllm_core.host.entry_points import PLUGINS
from ibllm_core.host.spec import ComponentSpec

if TYPE_CHECKING:
    import torch

    from ibllm_core.interfaces.dataset import Dataset

#: A recipe of ibllm's own small parts that learns next to nothing, quickly.
TINY = Path(__file__).with_name("tiny.toml")


@attrs.frozen
class Outcome:
    """What a command did: its exit code, and what it wrote."""

    code: int
    stdout: str
    stderr: str


@contextmanager
def best_device() -> Iterator[torch.device]:
    """CUDA where there is one: what can run there is tested there, without TF32, whose 10 bits would need other tolerances."""
    import torch

    from ibllm_core.model.compute import arithmetic

    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    with arithmetic(tf32=False):
        yield torch.device("cuda")


@pytest.fixture(scope="session")
def device() -> Iterator[torch.device]:
    """CUDA where there is one, else the CPU."""
    with best_device() as found:
        yield found


@pytest.fixture
def ibllm_plugins(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., plugins.Manager]:
    """``ibllm_plugins(*specs, ours=True)``: registers specs without installing anything, and gives the plugin manager that has them.

    Until the test ends it is this process's manager, so commands, recipes and suites find the components too. It is isolated: it sees ibllm's
    own plugins (not even those with ``ours=False``) and the specs, whatever else is installed.
    """

    def register(*specs: ComponentSpec, ours: bool = True) -> plugins.Manager:
        site = tmp_path_factory.mktemp("ibllm_plugins")
        module = f"{site.name}_given"  # a name that no other test's module has
        source = "from ibllm.plugin import ComponentSpec, hookimpl\n\n@hookimpl\n"
        (site / f"{module}.py").write_text(f"{source}def ibllm_components():\n    return {list(specs)!r}\n", encoding="utf-8")
        info = site / "given-0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: given\nVersion: 0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[{PLUGINS}]\ngiven = {module}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(site))  # in new processes the suites put the path into PYTHONPATH
        importlib.invalidate_caches()

        def points() -> list[metadata.EntryPoint]:
            found = metadata.entry_points(group=PLUGINS)
            return [p for p in found if p.value == module or (ours and p.dist is not None and p.dist.name == "ibllm")]

        made = functools.cache(lambda block: plugins.Manager(block, points()))
        monkeypatch.setattr(plugins, "_manager", made)
        return plugins.manager()

    return register


@pytest.fixture
def ibllm_tiny_data() -> Dataset:
    """A dataset of 64 items in each of the splits ``train`` and ``test``: images of one square, with captions, questions and answers."""
    from .dataset import SquaresDataset

    return SquaresDataset()


@pytest.fixture
def ibllm_command() -> Callable[..., Outcome]:
    """``ibllm_command("check", recipe)``: runs the command line in this process; the outcome has ``code``, ``stdout`` and ``stderr``."""
    return run_command


@pytest.fixture
def ibllm_tiny_recipe(tmp_path: Path) -> Path:
    """A recipe file that trains both modules for a step or two with ibllm's own small parts; to be run with ``--set``, or extended."""
    return Path(shutil.copy(TINY, tmp_path / "tiny.toml"))


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("ibllm_run") / "tiny"
    done = run_command("run", TINY, "--run-dir", run)
    assert done.code == 0, done.stderr
    return run


@pytest.fixture
def ibllm_run_dir(_finished: Path, tmp_path: Path) -> Path:
    """The directory of a finished run of the tiny recipe: trained once a session, and every test gets a copy of its own."""
    return Path(shutil.copytree(_finished, tmp_path / "tiny"))


def run_command(*words: object) -> Outcome:
    """Runs ``ibllm WORD …`` in this process."""
    from ibllm_cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes seconds; leave out with -m 'not slow'")
