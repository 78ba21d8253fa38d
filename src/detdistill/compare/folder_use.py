"""Whether another process is training in a run's folder, such as one of a comparison that was killed."""

from __future__ import annotations

from filelock import FileLock, Timeout

from detdistill.core.errors import DetdistillError
from detdistill.training.run_folder import RunFolder


def is_in_use(run: RunFolder) -> bool:
    """Whether another process is training in the folder.

    Raises:
        DetdistillError: The folder cannot be used.
    """
    try:
        _wait(run, seconds=0)
    except Timeout:
        return True
    return False


def wait_until_free(run: RunFolder) -> None:
    """Wait until no other process is training in the folder.

    Raises:
        DetdistillError: The folder cannot be used.
    """
    _wait(run, seconds=-1)  # without limit


def _wait(run: RunFolder, seconds: float) -> None:
    if not run.lock.exists():
        return
    try:
        FileLock(run.lock).acquire(timeout=seconds).lock.release()
    except Timeout:  # an OSError, too
        raise
    except OSError as error:
        raise DetdistillError(f"{run.path} cannot be used: {error.strerror}") from error
