"""Several processes give what one gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from detdistill.core import parallel
from detdistill.core.errors import DataError
from detdistill.core.parallel import work_through

ENDLESS = """
import os, signal, time
from detdistill.core import parallel
signal.signal(signal.SIGTERM, lambda *_: None)
parallel._MANY = 1
parallel.usable_processors = lambda: 2

def work(item):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(600)

list(parallel.work_through([1, 2, 3], work, "sleeping", block=1))
"""


def squared(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def ends_when_told(_: int) -> bool:
    return signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def summed(count: int) -> int:
    return sum(square for square, _ in work_through(range(count), squared, "squaring", block=5))


def killed(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def refused(number: int) -> int:
    raise DataError(f"{number}: no")


def is_running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(parallel, "_MANY", 2)
    monkeypatch.setattr(parallel, "usable_processors", lambda: 2)
    # The test runner's own handler would keep a process that has just been forked from being ended.
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@pytest.mark.parametrize("count", [0, 9, 50])
@pytest.mark.usefixtures("two_processes")
def test_results_are_in_order(count: int) -> None:
    results = list(work_through(range(count), squared, "squaring", block=5))
    assert [result for result, _ in results] == [number * number for number in range(count)]
    if sys.platform.startswith("linux"):
        assert (os.getpid() in {process for _, process in results}) == (0 < count < 10)


@pytest.mark.usefixtures("two_processes")
def test_a_process_that_is_killed_is_an_error() -> None:
    with pytest.raises(BrokenProcessPool):
        list(work_through(range(50), killed, "ending", block=5))


@pytest.mark.usefixtures("two_processes")
def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(DataError, match="0: no"):
        list(work_through(range(50), refused, "refusing", block=5))


@pytest.mark.usefixtures("two_processes")
def test_processes_end_although_their_parent_handles_the_signal() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        assert all(work_through(range(50), ends_when_told, "asking", block=5))
        for _ in range(20):  # an end right after the start
            with pytest.raises(DataError):
                list(work_through(range(50), refused, "refusing", block=5))
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("two_processes")
def test_a_process_of_another_pool_works_alone() -> None:
    assert list(work_through([50] * 10, summed, "summing", block=5)) == [sum(number**2 for number in range(50))] * 10


def test_processors_are_shared_by_the_processes_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = parallel.usable_processors()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * alone))
    assert alone >= 1
    assert parallel.usable_processors() == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent ended")
def test_a_killed_process_leaves_none_behind() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            workers = [int(parent.stdout.readline()) for _ in range(2)]
            assert all(map(is_running, workers))
        finally:
            parent.kill()
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
