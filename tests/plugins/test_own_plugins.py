"""The plugins of this repository are registered like a stranger's, load without torch, and keep their promises."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest
from ibllm_inspect.options import options_of

from ibllm.capabilities import CAPABILITIES
from ibllm_core.host.manager import manager
from ibllm_core.host.spec import KINDS

ROOT = Path(__file__).parents[2]
OWN = [(row.kind, row.name) for row in manager().rows() if row.distribution == "ibllm" and row.status == "ok"]


def test_every_plugin_module_has_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    modules = {f"{path.parent.name}.plugin" for path in ROOT.glob("plugins/ibllm_*/plugin.py")}
    assert modules == set(project["project"]["entry-points"]["ibllm"].values())


def test_what_is_installed_is_what_pyproject_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    installed = {row.plugin for row in manager().rows() if row.distribution == "ibllm"}
    assert installed == set(project["project"]["entry-points"]["ibllm"]), "reinstall: pip install -e ."


def test_all_of_them_load():
    assert [row for row in manager().rows() if row.distribution == "ibllm" and row.status != "ok"] == []


def test_plugins_and_configs_load_without_torch():
    script = """
import json, sys
from ibllm_core.host.manager import manager
found = manager()
for row in found.rows():
    if row.status == "ok" and row.distribution == "ibllm":
        found.config_class(row.kind, row.name)
print(json.dumps(sorted({"torch", "matplotlib", "tokenizers", "sacrebleu", "tensorboardX"}.intersection(sys.modules))))
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == []


@pytest.mark.parametrize(("kind", "name"), OWN, ids=[f"{kind}.{name}" for kind, name in OWN])
def test_a_component_says_what_its_options_mean_and_uses_known_capabilities(kind, name):
    config = manager().config_class(kind, name)
    options = options_of(config)
    assert all(option.help for option in options)
    if not any(option.required for option in options):
        assert config().provides() <= set(CAPABILITIES)
        for need in config().needs():
            part, _, capability = need.partition(".")
            named = {getattr(config(), field.name) for field in attrs.fields(config) if field.metadata.get("part")}
            assert part in {*KINDS, *named} or (part == "data" and capability)
            assert capability in {"", *CAPABILITIES}
