"""Where a run computes: a device is normalised in one place, and a recorded one is a wish. No accelerator is needed: one is pretended."""

from __future__ import annotations

import importlib.machinery
import json
import re
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from ibllm_cli.main import main
from torch import nn

import ibllm
from ibllm.machine import hardware
from ibllm_core.errors import Notice, UserError
from ibllm_core.model import compute
from ibllm_core.model.compute import peak_memory
from ibllm_core.recipe import load
from ibllm_core.recipe.schema import Compute
from ibllm_core.training.job import Job

from .conftest import TINY, invoke

SHORT = ("stages.text.steps=2", "stages.image.steps=0", "stages.joint.steps=0", "compute.threads=1", "training.checkpoint_every=1")


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """A machine with two CUDA devices; what is asked of them is written down, with the device it is asked of."""
    asked: list[tuple[str, object]] = []

    class Module:
        """In place of torch.cuda, whose functions want a device with its number."""

        def reset_peak_memory_stats(self, device: torch.device) -> None:
            asked.append(("reset", device))

        def max_memory_allocated(self, device: torch.device) -> int:
            asked.append(("peak", device))
            return 7

        def get_device_name(self, device: torch.device) -> str:
            return f"card {device.index}"

    monkeypatch.setattr(compute, "devices", lambda: ("cpu", "cuda:0", "cuda:1"))
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda index: asked.append(("set", index)))
    monkeypatch.setattr(torch, "get_device_module", lambda device=None: Module())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    return asked


class Model(nn.Module):
    """A model that goes wherever it is told."""

    def to(self, device: torch.device) -> Model:  # type: ignore[override]
        self.device = device
        return self


@pytest.mark.parametrize(
    ("wanted", "local", "device"),
    [
        ("auto", 0, "cuda:0"),
        ("auto", 1, "cuda:1"),
        ("cuda", 0, "cuda:0"),
        ("cuda", 1, "cuda:1"),
        ("cuda:1", 0, "cuda:1"),
        ("cpu", 1, "cpu"),
    ],
)
def test_a_device_always_has_its_number(two_cards, wanted, local, device):
    model = Model()
    assert compute.prepare(model, Compute(device=wanted, threads=1), local) == torch.device(device) == model.device
    if device != "cpu":
        assert two_cards == [("set", torch.device(device).index), ("reset", torch.device(device))]
        assert peak_memory(model.device) == (7, "device (allocated)")
        assert hardware(model.device)["device"] == f"card {model.device.index}"


def test_auto_is_the_cpu_where_there_is_no_card(monkeypatch):
    monkeypatch.setattr(compute, "devices", lambda: ("cpu",))
    assert compute.choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["cuda:9", "gpu", "tpu:0", "xpu", "cpu:1", "cuda:x", ""])
def test_a_device_that_is_not_here_is_named_with_those_that_are(two_cards, wanted):
    with pytest.raises(UserError, match=f"device '{wanted}': .*there are: auto, cpu, cuda:0, cuda:1$"):
        compute.choose_device(wanted)


def test_no_number_is_invented_for_what_is_no_device(two_cards):
    with pytest.raises(UserError, match=r"device 'banana': there is no banana here; there are: auto, cpu, cuda:0, cuda:1$"):
        compute.choose_device("banana")


@pytest.fixture
def tpu(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A machine whose torch_xla has two devices; whether it is told to compute eagerly is written down."""
    eager: list[bool] = []
    xla = types.ModuleType("torch_xla")
    xla.__spec__ = importlib.machinery.ModuleSpec("torch_xla", None)
    xla.experimental = types.SimpleNamespace(eager_mode=eager.append)  # type: ignore[attr-defined]
    xla.runtime = types.SimpleNamespace(addressable_runtime_device_count=lambda: 2)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_xla", xla)
    monkeypatch.setattr(compute, "devices", lambda: ("cpu",))
    return eager


@pytest.mark.parametrize(("wanted", "device"), [("xla", "xla:0"), ("xla:1", "xla:1")])
def test_xla_computes_eagerly_where_torch_xla_is_installed(tpu, wanted, device):
    model = Model()
    assert compute.prepare(model, Compute(device=wanted, threads=1)) == torch.device(device) == model.device
    assert tpu == [True]
    assert hardware(model.device)["device"] == "xla"
    assert peak_memory(model.device)[1] == "process (resident)"


def test_xla_is_left_alone_until_it_is_asked_for(tpu):
    assert compute.choose_device("auto") == torch.device("cpu")
    assert not tpu
    with pytest.raises(UserError, match=r"there is no xla:2 here; there are: auto, cpu, xla:0, xla:1$"):
        compute.choose_device("xla:2")


def test_xla_is_refused_where_torch_xla_is_not_installed(monkeypatch):
    monkeypatch.setattr(compute, "devices", lambda: ("cpu",))
    with pytest.raises(UserError, match=r"device 'xla': there is no xla:0 here; there are: auto, cpu$"):
        compute.choose_device("xla")


def test_more_processes_than_cards_are_told_so(two_cards):
    with pytest.raises(UserError, match=re.escape("no cuda:2 here; there are: auto, cpu, cuda:0, cuda:1; this is process 2")):
        compute.choose_device("auto", local=2)


def test_cards_that_are_hidden_are_spoken_of(monkeypatch):
    monkeypatch.setattr(compute, "devices", lambda: ("cpu",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "x")
    with pytest.raises(UserError, match=re.escape("there is no cuda:0 here (CUDA_VISIBLE_DEVICES='x'); there are: auto, cpu")):
        compute.choose_device("cuda")


@pytest.mark.parametrize(
    ("said", "threads", "used", "told"),
    [
        ("3", 0, None, ""),
        ("3,2", 0, None, ""),
        ("3", 2, 2, "compute.threads = 2 is used, not OMP_NUM_THREADS=3"),
        ("2", 2, 2, ""),
        ("", 2, 2, ""),
        ("", 0, 5, ""),
        ("x", 0, 5, "OMP_NUM_THREADS='x' is no number of threads; 5 are used"),
        ("0", 2, 2, "OMP_NUM_THREADS='0' is no number of threads; 2 are used"),
    ],
)
def test_threads_are_the_recipes_else_the_environments_else_the_cores(monkeypatch, recwarn, said, threads, used, told):
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(compute, "available_cores", lambda: 5)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    compute.prepare(Model(), Compute(device="cpu", threads=threads))
    assert chosen == ([] if used is None else [used])  # torch itself has read OMP_NUM_THREADS
    assert [str(warning.message) for warning in recwarn if warning.category is Notice] == ([told] if told else [])


@pytest.fixture(scope="module")
def from_a_card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose record says that it was made on ``cuda:3``, and which may go on from its first step."""
    path = tmp_path_factory.mktemp("card") / "run"
    Job(load(TINY, ("compute.device=cpu", *SHORT)), path).run()
    for file in (path / "recipe.toml", path / "model" / "recipe.toml"):
        file.write_text(file.read_text(encoding="utf-8").replace('device = "cpu"', 'device = "cuda:3"'), encoding="utf-8")
    info = json.loads((path / "run.json").read_text(encoding="utf-8"))
    info["hardware"]["device"] = "a card"
    (path / "run.json").write_text(json.dumps(info), encoding="utf-8")
    return path


def test_a_run_made_on_a_card_opens_and_is_measured_on_a_cpu(from_a_card, capsys):
    with pytest.warns(Notice, match="model was made for the device cuda:3, which is not here; cpu is used"):
        assert ibllm.open(from_a_card).model.device == torch.device("cpu")
    with pytest.warns(Notice, match="which is not here; cpu is used"):
        assert main(["evaluate", str(from_a_card), "--items", "2", "--split", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test/items"] == 2


def test_a_device_may_be_asked_for(from_a_card, recwarn, capsys):
    assert ibllm.open(from_a_card, device="cpu").model.device == torch.device("cpu")
    assert main(["evaluate", str(from_a_card), "--items", "2", "--split", "test", "--json", "--device", "cpu"]) == 0
    assert not [warning for warning in recwarn if warning.category is Notice], "nothing is to be told"
    capsys.readouterr()
    assert main(["evaluate", str(from_a_card), "--device", "gpu"]) == 2
    assert "device 'gpu': there is no gpu here; there are: auto, cpu" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("--device", "cpu")])
def test_a_run_made_on_a_card_goes_on_on_a_cpu(from_a_card, tmp_path, arguments):
    shutil.copytree(from_a_card, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-0000002-end")
    with pytest.warns(Notice, match="was trained on a card so far and goes on on cpu; figures may differ"):
        assert invoke("run", tmp_path / "run", "--resume", *arguments).return_value == 0
    info = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert (info["status"], info["hardware"]["device"], [one["device"] for one in info["hardware_before"]]) == ("done", "cpu", ["a card"])


def test_a_recorded_device_that_is_not_here_is_told_once_and_kept(from_a_card, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(from_a_card, run)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    info["hardware"]["device"] = "cpu"  # it has gone on here before: the hardware does not differ
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    said = f"{run} was made for the device cuda:3, which is not here; cpu is used"
    for _ in range(2):
        shutil.rmtree(run / "checkpoints" / "step-0000002-end")
        with pytest.warns(Notice) as told:
            assert invoke("run", run, "--resume").return_value == 0
        assert [str(one.message) for one in told].count(said) == 1
        assert json.loads((run / "run.json").read_text(encoding="utf-8"))["notices"].count(said) == 1


def test_a_new_run_wants_its_device_and_a_run_may_be_given_one(tmp_path, capsys):
    sets = [part for key in ("compute.device=cuda:9", *SHORT) for part in ("--set", key)]
    assert main(["run", str(TINY), "--run-dir", str(tmp_path / "a"), *sets]) == 2
    assert "device 'cuda:9': there is no cuda:9 here" in capsys.readouterr().err
    assert main(["run", str(TINY), "--run-dir", str(tmp_path / "b"), "--device", "tpu"]) == 2
    assert "device 'tpu': there is no tpu here; there are: auto, cpu" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "nothing is half-written"
    run = ibllm.recipe(TINY, set=["compute.device=cuda:9", *SHORT]).run(tmp_path / "c", device="cpu")
    assert run.info["hardware"]["device"] == "cpu"
    assert run.model.device == torch.device("cpu")
