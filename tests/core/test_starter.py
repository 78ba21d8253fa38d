"""Processes end with the one that started them, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detdistill.core.starter import STARTER, end_with_starter, ending_with_this_process
from support.linux_processes import end_soon, is_running

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")

SLEEPING = """
import os, sys, time
from detdistill.core.starter import end_with_starter
end_with_starter()
os.fork()  # the child stands for a process that loads images: it calls nothing
os.write(1, f"{os.getpid()}\\n".encode())
time.sleep(600)
"""
STARTING = """
import os, subprocess, sys, time
from detdistill.core.starter import end_with_starter, ending_with_this_process
end_with_starter()
environment = {**os.environ, **(ending_with_this_process() if sys.argv[1] == "first" else {})}
subprocess.Popen([sys.executable, *sys.argv[2:]], env=environment, start_new_session=sys.argv[1] == "first")
time.sleep(600)
"""


def started(*words: str, count: int) -> tuple[subprocess.Popen[str], list[int]]:
    """A process, and the numbers of those that print theirs."""
    environment = {name: value for name, value in os.environ.items() if name != STARTER}
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    return process, [int(process.stdout.readline()) for _ in range(count)]


def test_a_killed_process_takes_those_that_it_started_with_it() -> None:
    parent, children = started("-c", STARTING, "first", "-c", SLEEPING, count=2)
    assert all(map(is_running, children))
    parent.kill()
    parent.wait()
    assert end_soon(children)


def test_those_of_its_children_end_too() -> None:
    """As the processes of ddp, which their first process starts with its own environment."""
    parent, grandchildren = started("-c", STARTING, "first", "-c", STARTING, "second", "-c", SLEEPING, count=2)
    assert all(map(is_running, grandchildren))
    parent.kill()
    parent.wait()
    assert end_soon(grandchildren)


def test_a_process_whose_starter_is_gone_already_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    process = subprocess.run(
        [sys.executable, "-c", SLEEPING], env={**os.environ, STARTER: str(gone.pid)}, start_new_session=True
    )
    assert process.returncode == -9


def test_a_process_that_was_started_by_hand_outlives_its_parent(tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    script = f"{SLEEPING.replace('time.sleep(600)', 'time.sleep(1.5)')}\nopen({str(file)!r}, 'a').write('x')"
    parent, children = started("-c", STARTING, "by hand", "-c", script, count=2)
    parent.kill()
    parent.wait()
    assert end_soon(children)
    assert file.read_text() == "xx", "they came to their own end"


def test_nothing_is_watched_without_a_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STARTER, raising=False)
    end_with_starter()
    assert STARTER not in os.environ
    assert ending_with_this_process() == {STARTER: str(os.getpid())}
