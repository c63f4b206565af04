"""Studies on a SLURM cluster of one machine (Debian's slurmctld, slurmd and munge) and on a local Ray cluster; machines that die."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ibllm_study.directory import DONE, StudyDirectory
from ibllm_study.plan import Plan, make_plan
from ibllm_study.study_file import read_study

from tests.processes import free_port

from .needs import needs

TINY = Path(__file__).parents[1] / "training" / "tiny.toml"
STUDY = f"""
format = 1
base = "{TINY}"
seeds = 1
primary = "novel/scene_exact"
[set]
"training.checkpoint_every" = 20
[variants]
"no cycle" = {{ "losses.cycle" = false }}
"""
LONG = STUDY.replace("[variants]", '"stages.text.steps" = 800\n"stages.image.steps" = 0\n"stages.joint.steps" = 1\n[variants]')
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol")


def opened(folder: Path, text: str = STUDY) -> tuple[Path, Plan, StudyDirectory]:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path, make_plan(read_study(path)), StudyDirectory(folder / "out")


def ablate(path: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ibllm", "ablate", str(path), "--study-dir", str(path.parent / "out"), *words]
    environment = {**os.environ, "IBLLM_BLOCK": "rehearsal,report"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=580)
    assert process.returncode == 0, said
    return said


def until(what: Callable[[], bool], seconds: float = 200.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def figures(plan: Plan, directory: StudyDirectory) -> dict[str, object]:
    return {cell.id: json.loads(directory.run(cell).results.read_text(encoding="utf-8")) for cell in plan.cells}


def workers(folder: Path) -> list[int]:
    """The workers that compute for a study in `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ibllm_study.worker" in words and any(word.startswith(os.fsencode(folder)) for word in words):
            found.append(int(entry.parent.name))
    return found


class Cluster:
    """Daemons with files, sockets and ports of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname().partition(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key, socket_ = folder / "munge.key", folder / "munge.socket"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        folder.chmod(0o755)
        self.munged = self._start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_}", f"--pid-file={folder / 'munged.pid'}",
            f"--log-file={folder / 'munged.log'}", f"--seed-file={folder / 'munged.seed'}",
        )  # fmt: skip
        until(socket_.exists, 20)
        cores = os.cpu_count() or 1
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n", encoding="utf-8")
        self.configuration = folder / "slurm.conf"
        self.configuration.write_text(
            f"""ClusterName=ibllm
SlurmctldHost={self.host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket_}
CredType=cred/munge
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
StateSaveLocation={folder / "state"}
SlurmdSpoolDir={folder / "spool"}
SlurmctldPidFile={folder / "slurmctld.pid"}
SlurmdPidFile={folder / "slurmd.pid"}
SlurmctldLogFile={folder / "slurmctld.log"}
SlurmdLogFile={folder / "slurmd.log"}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
InactiveLimit=0
KillWait=5
JobRequeue=0
NodeName={self.host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={self.host} Default=YES MaxTime=INFINITE State=UP
""",
            encoding="utf-8",
        )
        self.environment = {"SLURM_CONF": str(self.configuration)}
        self.controller = self._start("slurmctld", "-D", "-f", str(self.configuration))
        self.start_node()

    def start_node(self) -> None:
        self.node = self._start("slurmd", "-D", "-f", str(self.configuration), "-N", self.host)
        until(lambda: "idle" in self.says("sinfo", "--noheader", "--format=%T"), 60)

    def kill_node(self) -> None:
        """As a power cut does: the daemon and all that it started are gone at once."""
        self.node.kill()
        self.node.wait()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                named = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in named[0] and (b"SLURM_JOB_ID=" in named[0] or b"slurmstepd" in named[1]):
                os.kill(int(entry.name), signal.SIGKILL)

    def says(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **self.environment})
        return done.stdout + done.stderr

    def close(self) -> None:
        self.says("scancel", "--user=root")
        for process in (self.node, self.controller, self.munged):
            process.terminate()
            process.wait()

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        output = (self.folder / f"{command[0]}.out").open("ab")
        program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program is not None
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        return subprocess.Popen([program, *command[1:]], stdout=output, stderr=output, start_new_session=True, env=environment)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    there = all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in PROGRAMS)
    needs("SLURM (apt install slurmctld slurmd slurm-client munge)", there)
    needs("the rights to start SLURM's daemons", os.geteuid() == 0)
    needs("submitit", importlib.util.find_spec("submitit") is not None)
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster")
    monkeypatch.setenv("SLURM_CONF", str(made.configuration))
    yield made
    made.close()


SLURM = ("--launcher", "submitit", "--launch", "look=0.5", "--launch", "minutes=30")


def test_a_study_on_slurm_gives_what_it_gives_here(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here, plan, near = opened(tmp_path / "here")
    there, _, far = opened(tmp_path / "there")
    ended(ablate(here, "--jobs", "2"))
    ended(ablate(there, *SLURM))
    assert figures(plan, far) == figures(plan, near)
    assert len(list((far / "jobs" / "slurm").glob("*.code"))) == len(plan.cells), "each run was a job"
    assert sum(far.log(cell).read_text(encoding="utf-8").count("stage 1/3 text: 8 steps\n") for cell in plan.cells) == 1


def test_a_run_goes_on_after_its_machine_died(cluster: Cluster, tmp_path: Path) -> None:
    path, plan, directory = opened(tmp_path, LONG)
    process = ablate(path, *SLURM, "--jobs", "1")
    run = directory.run(plan.cells[0])
    until(lambda: len(list(run.checkpoints.glob("step-*"))) > 0)
    cluster.kill_node()
    until(lambda: workers(tmp_path) == [], 20)
    time.sleep(15)
    cluster.start_node()
    said = ended(process)
    assert "tried again (1 of 3)" in said
    assert all(directory.outcome(cell).status == DONE for cell in plan.cells)


def test_a_study_that_is_started_again_takes_up_its_jobs(cluster: Cluster, tmp_path: Path) -> None:
    path, plan, directory = opened(tmp_path, LONG)
    process = ablate(path, *SLURM, "--jobs", "1")
    run = directory.run(plan.cells[0])
    until(lambda: (run / "metrics.jsonl").is_file())
    process.kill()
    process.wait()
    job = next((directory / "jobs" / "slurm").glob("*.job")).read_text(encoding="utf-8")
    ended(ablate(path, *SLURM, "--jobs", "1"))
    assert next((directory / "jobs" / "slurm").glob(f"{plan.cells[0].id}.job")).read_text(encoding="utf-8") == job
    assert all(directory.outcome(cell).status == DONE for cell in plan.cells)


def test_an_interrupted_study_stops_its_jobs_with_checkpoints(cluster: Cluster, tmp_path: Path) -> None:
    path, plan, directory = opened(tmp_path, LONG.replace("800", "100000"))
    process = ablate(path, *SLURM)
    until(lambda: all((directory.run(cell) / "metrics.jsonl").is_file() for cell in plan.cells[:1]))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert directory.run(plan.cells[0]).info()["status"] == "interrupted"
    until(lambda: cluster.says("squeue", "--noheader").strip() == "", 30)


def test_a_study_on_ray_gives_what_it_gives_here_and_outlives_a_process(tmp_path: Path) -> None:
    needs("ray", importlib.util.find_spec("ray") is not None)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here, plan, near = opened(tmp_path / "here", LONG)
    there, _, far = opened(tmp_path / "there", LONG)
    ended(ablate(here, "--jobs", "1"))
    process = ablate(there, "--launcher", "ray")
    until(lambda: len(list(far.run(plan.cells[0]).checkpoints.glob("step-*"))) > 0)
    (worker, *_) = workers(tmp_path / "there")
    parent = int(Path(f"/proc/{worker}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    said = ended(process)
    assert "tried again (1 of 3)" in said
    assert figures(plan, far) == figures(plan, near)
