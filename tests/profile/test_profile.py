"""`ibllm profile`: what it finds out, what it says, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from ibllm_cli.main import main
from ibllm_profile.advice import Setting, advice
from ibllm_profile.figures import Operation, Profile, Row, StageFigures, percent, together
from ibllm_profile.peaks import peak
from ibllm_profile.traces import STEP, read

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the command says as JSON, and its trace."""
    from contextlib import redirect_stdout
    from io import StringIO

    trace, said = tmp_path_factory.mktemp("profile") / "trace.json", StringIO()
    with redirect_stdout(said):
        code = main(
            ["profile", str(TINY), "--device", "cpu", "--steps", "2", "--set", "stages.joint.steps=0", "--trace", str(trace), "--json"]
        )
    assert code == 0
    assert [path.name for path in trace.parent.iterdir()] == ["trace.json"]
    return json.loads(said.getvalue()), json.loads(trace.read_text())


def test_every_stage_has_its_figures(profiled: tuple[dict[str, Any], dict[str, Any]]) -> None:
    found, _ = profiled
    assert [stage["whole"]["name"] for stage in found["stages"]] == ["text", "image"]
    for stage in found["stages"]:
        whole = stage["whole"]
        assert whole["step"] > 0
        assert stage["items"] == pytest.approx(8 / whole["step"])
        assert 0 <= whole["waiting"] <= 1
        assert 0 < whole["host_busy"] <= 1
        assert whole["kernels"] > 100  # operations
        assert whole["device_busy"] is whole["synchronisations"] is stage["utilisation"] is None, "there is no device"
        assert stage["flops"] > 0
        assert stage["memory"] > 2**20
        shares = [one["share"] for one in whole["operations"]]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1
        assert stage["advice"].endswith(".")


def test_kinds_of_iteration_that_differ_have_rows_of_their_own(profiled: tuple[dict[str, Any], dict[str, Any]]) -> None:
    text, image = profiled[0]["stages"]
    assert text["kinds"] == []
    assert [(kind["name"], kind["share"]) for kind in image["kinds"]] == [("critic: penalty", 0.5), ("the others", 0.5)]
    penalty, others = image["kinds"]
    assert penalty["kernels"] > others["kernels"]
    assert image["whole"]["step"] == pytest.approx((penalty["step"] + others["step"]) / 2)


def test_the_trace_holds_every_iteration_that_was_looked_at(profiled: tuple[dict[str, Any], dict[str, Any]]) -> None:
    events = profiled[1]["traceEvents"]
    assert sum(event["name"] == STEP for event in events) == 2 * 3  # two of each kind
    assert any(event["name"] == "aten::convolution" for event in events)


def test_a_terminal_shows_a_table_and_what_to_change(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert (
        main(["profile", str(TINY), "--device", "cpu", "--steps", "1", "--set", "stages.image.steps=0", "--set", "stages.joint.steps=0"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "most expensive: " in text
    assert "On a CPU there is no device to be busy or to wait for: neither is measured." in text
    assert "No MFU: the peak of" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such.toml"], "no-such.toml"),
        ([str(TINY), "--trace", "no/such/folder/trace.json"], "no/such/folder/trace.json"),
        ([str(TINY), "--device", "cuda:7"], "there is no cuda:7 here"),
        ([str(TINY), "--steps", "0"], "--steps"),
    ],
)
def test_mistakes_are_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", *arguments]) == 2
    assert said in capsys.readouterr().err


def event(cat: str, name: str, begin: float, length: float, thread: int = 1, of: int = 0) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": begin, "dur": length, "tid": thread, "pid": 1, "args": {"External id": of}}


def test_a_trace_of_a_card_is_read() -> None:
    """Streams that overlap are busy once; a wait counts within an iteration; a kernel counts for the operation that started it, if one did."""
    events = [
        event("user_annotation", STEP, 0, 100, of=1),
        event("gpu_user_annotation", STEP, 0, 100, of=1),
        event("kernel", "sm90_gemm", 10, 20, of=3),
        event("kernel", "void at::native::(anonymous namespace)::sum_kernel<float, 4>(float*)", 20, 20, thread=2, of=1),
        event("gpu_memcpy", "Memcpy HtoD", 60, 10),
        event("cuda_runtime", "cudaStreamSynchronize", 50, 5),
        event("cuda_runtime", "cudaLaunchKernel", 51, 1),
        event("cuda_runtime", "cudaDeviceSynchronize", 150, 5),
        event("cpu_op", "aten::linear", 5, 10, of=2),
        event("cpu_op", "aten::addmm", 6, 8, of=3),
        {"ph": "M", "name": "process_name", "pid": 1, "ts": 0},
    ]
    work = read({"traceEvents": events})
    assert (work.kernels, work.synchronisations) == (3, 1)
    assert work.busy == pytest.approx(40e-6)
    assert work.dearest == pytest.approx({"addmm": 0.4, "sum_kernel": 0.4, "Memcpy HtoD": 0.2})


def test_a_trace_of_a_cpu_is_read() -> None:
    """An operation that holds others is none of its own, and has the time that is left; threads are apart."""
    events = [
        event("cpu_op", "aten::linear", 0, 10),
        event("cpu_op", "aten::addmm", 1, 8),
        event("cpu_op", "aten::relu", 10, 4),
        event("cpu_op", "aten::_scaled_dot_product_flash_attention_for_cpu_backward", 2, 6, thread=2),
    ]
    work = read({"traceEvents": events})
    assert (work.kernels, work.busy, work.operations) == (0, 0, 3)
    assert work.dearest == pytest.approx({"addmm": 0.4, "attention_backward": 0.3, "relu": 0.2, "linear": 0.1})


ROW = Row(
    "joint",
    1.0,
    0.1,
    0.9,
    0.5,
    0.0,
    2444.0,
    0.0,
    [Operation("cudnn_convolution", 0.3), Operation("convolution_backward", 0.2), Operation("mm", 0.1)],
)
SETTING = Setting(True, 16, 16, 1, "bf16", {"graphs": "auto", "compile": False})


@pytest.mark.parametrize(
    ("row", "setting", "said"),
    [
        ({"waiting": 0.8}, {}, "The card waits for data 80 % of the time: compute.workers = 5 would do."),
        ({"waiting": 0.98}, {}, "The card waits for data 98 % of the time: 50 workers would be needed, and there are 16 cores"),
        ({"waiting": 0.5}, {"workers": 0}, "compute.workers = 2 would do."),
        ({"device_busy": 0.09}, {"compute": {"graphs": False}}, '2,444 kernels a step; compute.graphs = "auto" would start them as a whole.'),
        ({"device_busy": 0.09}, {"compute": {}}, "2,444 kernels a step; a larger batch"),
        ({"device_busy": 0.09, "synchronisations": 12.0}, {}, "and the host waits for it 12 times a step"),
        ({"device_busy": 0.4}, {"replayed": True}, "though iterations are replayed: a larger batch"),
        ({}, {}, "The card computes 90 % of the time; the first thing is convolutions (50 % of the time of all operations)."),
        ({}, {"precision": "fp32"}, 'compute.precision = "bf16"'),
        ({"operations": [Operation("native_layer_norm", 0.6)]}, {}, "normalisation (60 % of the time of all operations); compute.compile joins"),
        ({"device_busy": None}, {}, "The profiler saw no kernels; the first thing is convolutions"),
        ({"device_busy": None, "host_busy": 0.99}, {"card": False}, "The CPU computes; the first thing is convolutions"),
        ({"device_busy": None, "host_busy": 0.99, "step": 0.01}, {"card": False}, "2,444 operations of 4 µs each"),
        ({"device_busy": None, "host_busy": 0.3}, {"card": False, "threads": 1}, "has a core 30 % of the time: other work takes it"),
    ],
)  # fmt: skip
def test_a_sentence_says_what_to_change(row: dict[str, Any], setting: dict[str, Any], said: str) -> None:
    assert said in advice(attrs.evolve(ROW, **row), attrs.evolve(SETTING, **setting))


def test_a_card_has_all_columns_within_eighty() -> None:
    """Of a card there is a device to be busy, a peak, and what is replayed; what the run would have told stands below."""
    from io import StringIO

    from ibllm_profile.table import rendered
    from rich.console import Console

    kinds = [attrs.evolve(ROW, name="critic: penalty", share=0.25), attrs.evolve(ROW, name="the others", share=0.75)]
    stage = StageFigures(
        ROW, kinds, items=480.0, flops=1e12, utilisation=0.0123, memory=3 * 2**30, replayed=True, advice="The card computes."
    )
    machine = {
        "device": "NVIDIA H100 80GB HBM3",
        "kind": "cuda",
        "threads": 16,
        "cores": 16,
        "workers": 8,
        "precision": "bf16",
        "torch": "2.13.0",
    }
    profile = Profile(recipe="joint", **machine, peak=(989e12, "a datasheet"), steps=20, stages=[stage], notices=["something"])
    console = Console(width=80, file=StringIO())
    console.print(rendered(profile))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, said.splitlines())) <= 80
    (cells,) = (line.split() for line in said.splitlines() if line.startswith("joint  ") and "100.0" in line)
    assert cells == ["joint", "100.0", "90", "%", "50", "%", "0", "%", "2,444", "0", "1.2", "%", "480", "3.00"]
    text = " ".join(said.split())
    for part in (
        "device",
        "syncs",
        "MFU",
        "penalty (1/4)",
        "Captured and replayed (CUDA graphs): joint.",
        "989 TFLOPS",
        "told: something",
    ):
        assert part in text


def test_a_stage_of_several_kinds_has_their_means() -> None:
    rare = attrs.evolve(ROW, share=0.25, step=0.2, device_busy=0.5, operations=[Operation("mm", 1.0)])
    usual = attrs.evolve(ROW, share=0.75, step=0.1, device_busy=0.1, operations=[Operation("gelu", 1.0)])
    whole = together("joint", [rare, usual])
    assert whole.step == pytest.approx(0.125)
    assert whole.device_busy == pytest.approx((0.25 * 0.2 * 0.5 + 0.75 * 0.1 * 0.1) / 0.125)
    assert [(one.name, one.share) for one in whole.operations] == [("gelu", pytest.approx(0.6)), ("mm", pytest.approx(0.4))]


def test_peaks_are_known_by_the_devices_own_names() -> None:
    assert peak("NVIDIA H100 80GB HBM3", "bf16") == (989e12, "NVIDIA H100 datasheet")
    assert peak("NVIDIA H100 PCIe", "bf16") == (756e12, "NVIDIA H100 datasheet")
    assert peak("AMD EPYC", "fp32") is None


def test_a_part_reads_well() -> None:
    assert [percent(part) for part in (0, 0.004, 0.094, 0.412, 1)] == ["0 %", "0.4 %", "9.4 %", "41 %", "100 %"]
