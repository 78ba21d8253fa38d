from __future__ import annotations

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from detdistill.compare.folder_use import is_in_use, wait_until_free
from detdistill.core.errors import DetdistillError
from detdistill.training.run_folder import RunFolder


def test_a_folder_is_in_use_while_its_lock_is_held(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert not is_in_use(run)
    wait_until_free(run)
    assert not run.path.exists(), "looking changes nothing"
    with run.held():
        assert is_in_use(run)
    assert not is_in_use(run)


def test_waiting_ends_when_the_lock_is_let_go(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.lock.parent.mkdir()
    lock = FileLock(run.lock, thread_local=False).acquire().lock
    waiting = threading.Thread(target=wait_until_free, args=(run,))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    lock.release()
    waiting.join()
    assert not is_in_use(run)


def test_a_lock_that_is_no_file_is_an_error(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.lock.mkdir(parents=True)
    for look in (is_in_use, wait_until_free):
        with pytest.raises(DetdistillError) as problem:
            look(run)
        assert str(tmp_path) in str(problem.value)
