"""What every test shares: one thread for each process, and a site-packages folder of pretended distributions."""

from __future__ import annotations

import os

# Read when torch is first imported, so this comes before anything that might import it. Workers run side by side, one thread each.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

import atexit
import gc
import importlib
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from ibllm_core.host.entry_points import PLUGINS
from ibllm_core.host.manager import Manager
from tests import beside

# What opened models keep on disk: not at home.
if "IBLLM_CACHE" not in os.environ:
    os.environ["IBLLM_CACHE"] = tempfile.mkdtemp(prefix="ibllm-cache-")
    atexit.register(shutil.rmtree, os.environ["IBLLM_CACHE"], ignore_errors=True)


def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: beyond a few workers, importing torch in each costs more than it saves."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


#: What takes longest, the longest first: with the rest after them no worker is left alone with one at the end.
LONGEST = (
    "tests/docs/test_commands.py",
    "tests/study/test_ablate.py",
    "tests/plugin_author/test_generated.py",
    "tests/recipe/test_shipped.py",
    "tests/examples/",
    "tests/isolation/",
    "tests/training/",
    "tests/study/",
    "tests/conformance/test_pairs.py",
    "tests/conformance/test_suite_catches.py",
    "tests/packaged/",
    "tests/plugin_author/",
    "tests/losses/",
    "tests/parts/",
    "tests/report/",
)
#: For `IBLLM_BLOCK`: what runs do without where tests are of something else. tests/training/test_rehearsal.py and tests/report are about these;
#: the commands, the documentation's pages and the examples run with them.
WITHOUT = "rehearsal,report"
#: Those that wait for the tools which run beside the tests.
LAST = "tests/test_quality.py"

_beside: dict[str, Any] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, those that wait for others last; all else as it was."""

    def place(item: pytest.Item) -> int:
        if item.nodeid.startswith(LAST):
            return len(LONGEST) + 1
        return next((number for number, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST))

    items.sort(key=place)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Those of tests/integration are run where they are asked for by name."""
    folder = Path(__file__).with_name("integration")
    if collection_path != folder:
        return None
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.invocation_params.args if not argument.startswith("-")]
    return None if any(path == folder or folder in path.parents for path in asked) else True


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        _beside["folder"] = tempfile.mkdtemp(prefix="ibllm-beside-")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["beside"] = _beside["folder"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    if "process" not in _beside:
        _beside["process"] = beside.start(Path(_beside["folder"]), ids)


def pytest_collection_finish(session: pytest.Session) -> None:
    # What is imported and collected stays: a tenth of a worker's time went into looking through it for what might be freed.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        _beside["process"] = beside.start(Path(_beside["folder"]), [item.nodeid for item in session.items])


def pytest_unconfigure() -> None:
    if process := _beside.pop("process", None):
        process.stdin.close()
        process.wait()
    if folder := _beside.pop("folder", None):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def beside_folder(request: pytest.FixtureRequest) -> Path:
    """Where the tools that run beside the tests leave what they found (`tests.beside`)."""
    given = getattr(request.config, "workerinput", None)
    return Path(given["beside"] if given else _beside["folder"])


#: A plugin module with one component; fields of the spec may be given.
PLUGIN = """
from ibllm_core.host.hookspecs import hookimpl
from ibllm_core.host.spec import ComponentSpec

@hookimpl
def ibllm_components():
    return [ComponentSpec(kind={kind!r}, name={name!r}, factory={factory!r}, config={config!r}, summary="a test's", api={api})]
"""


def plugin_source(kind: str = "loss", name: str = "mine", factory: str = "m.f:F", config: str = "m.c:C", api: int = 1) -> str:
    return PLUGIN.format(kind=kind, name=name, factory=factory, config=config, api=api)


class Site:
    """A folder on ``sys.path`` with real metadata: what the import system and importlib.metadata see after a pip install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.distributions: list[str] = []

    def install(
        self, distribution: str, entries: Mapping[str, str], modules: Mapping[str, str], version: str = "1.0", group: str = PLUGINS
    ) -> None:
        """Args: entries: entry-point name → ``module[:object]``. modules: dotted name → source."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items()))
        for name, source in modules.items():
            path = self.folder.joinpath(*name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        self.distributions.append(distribution)
        importlib.invalidate_caches()

    def manager(self, block: tuple[str, ...] = ()) -> Manager:
        """A manager that sees only what was installed here."""
        points = [point for point in metadata.entry_points(group=PLUGINS) if point.dist and point.dist.name in self.distributions]
        return Manager(block, points)

    def environment(self) -> dict[str, str]:
        """For a subprocess that sees this folder too."""
        return os.environ | {"PYTHONPATH": str(self.folder)}


@pytest.fixture
def plain_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs neither rehearse nor write a report; there are no commands that read one."""
    monkeypatch.setenv("IBLLM_BLOCK", WITHOUT)


@pytest.fixture
def unrehearsed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs do not rehearse."""
    monkeypatch.setenv("IBLLM_BLOCK", "rehearsal")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def source():  # type: ignore[no-untyped-def]
    """The source of a plugin module with one component: ``source(kind=…, name=…, factory=…, config=…, api=…)``."""
    return plugin_source


@pytest.fixture(scope="session")
def device():  # type: ignore[no-untyped-def]
    """CUDA where there is one: what can run there is tested there."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def pretended_run() -> Callable[[Path], Path]:
    """Makes a folder look like a run that is done, with no weights in it."""

    def make(folder: Path) -> Path:
        (folder / "model").mkdir(parents=True)
        (folder / "recipe.toml").write_text("format = 1\n")
        (folder / "model" / "weights.safetensors").touch()
        return folder

    return make
