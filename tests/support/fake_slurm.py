"""Slurm's commands as far as submitit calls them, with processes of this machine. Nothing here was tried on a cluster.

`install` puts them into a folder for `PATH`. The state of each job is a file `JOB.state` in the folder beside it; with
a file `hold` there, jobs stay pending.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scontrol", "scancel")
TASK = {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
NODE = {"SLURM_JOB_NUM_NODES": "1", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost"}
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


def install(folder: Path) -> Path:
    """Write the commands, and return their folder. The states are in `folder / "jobs"`."""
    (folder / "bin").mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name in COMMANDS:
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {folder / "jobs"} {name} "$@"\n')
        script.chmod(0o755)
    return folder / "bin"


def sbatch(jobs: Path, file: str) -> None:
    number = sum(1 for _ in jobs.glob("*.state")) + 1
    (jobs / f"{number}.sh").write_text(Path(file).read_text())
    (jobs / f"{number}.state").write_text("PENDING")
    if not (jobs / "hold").exists():
        command = [sys.executable, "-S", __file__, str(jobs), "compute", str(number)]
        nowhere = subprocess.DEVNULL  # whoever waits for the end of our output is not to wait for the job
        subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
    print(f"Submitted batch job {number}")


def compute(jobs: Path, number: str) -> None:
    state, again = jobs / f"{number}.state", jobs / f"{number}.again"
    while True:
        again.unlink(missing_ok=True)
        environment = {**os.environ, **TASK, **NODE, "SLURM_JOB_ID": number, "SLURM_JOB_NAME": "job"}
        job = subprocess.Popen(["/bin/sh", str(jobs / f"{number}.sh")], env=environment, start_new_session=True)
        (jobs / f"{number}.group").write_text(str(job.pid))
        state.write_text("RUNNING")
        status = job.wait()
        if not again.exists():
            break
        with (jobs / "requeued").open("a") as file:
            file.write(f"{number}\n")
    if state.read_text() != "CANCELLED":
        state.write_text("FAILED" if status else "COMPLETED")


def srun(*words: str) -> None:
    files = {}
    rest = list(words)
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            files[option] = rest.pop(0).replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
    for number, option in ((1, "--output"), (2, "--error")):
        os.dup2(os.open(files[option], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.execvp(rest[0], rest)


def sacct(jobs: Path) -> None:
    print("JobID|State|NodeList")
    for state in jobs.glob("*.state"):
        print(f"{state.stem}|{state.read_text()}|localhost")


def scancel(jobs: Path, number: str) -> None:
    (jobs / f"{number}.state").write_text("CANCELLED")
    group = jobs / f"{number}.group"
    if group.exists():
        os.killpg(int(group.read_text()), signal.SIGTERM)


def main(folder: str, name: str, *words: str) -> None:
    jobs = Path(folder)
    if name == "sbatch":
        sbatch(jobs, words[0])
    elif name == "compute":
        compute(jobs, words[0])
    elif name == "srun":
        srun(*words)
    elif name == "sacct":
        sacct(jobs)
    elif name == "scontrol":
        assert words[0] == "requeue"
        (jobs / f"{words[1]}.again").touch()
    else:
        scancel(jobs, words[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
