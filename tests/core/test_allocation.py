from __future__ import annotations

import os
import subprocess
import sys

import pytest

STEPS = """
import resource
import torch
from detdistill.cli import main
main(["data", "inspect", "no-such-folder"])  # a command that needs no detector
def pages():
    for _ in range(10):
        torch.ones(16 * 2**20), torch.ones(2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-pages() + pages())
"""


def pages_of_ten_steps(**environment: str) -> int:
    """How many pages a process gets anew, after a command, in steps that need as much memory as those before."""
    said = subprocess.check_output([sys.executable, "-c", STEPS], env={**os.environ, **environment})
    return int(said.splitlines()[-1])


@pytest.mark.skipif(
    sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc's allocation"
)
def test_a_step_takes_no_new_memory_unless_the_environment_says_how_it_is_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    as_it_was = pages_of_ten_steps(MALLOC_ARENA_MAX="8")
    assert as_it_was > 100
    assert pages_of_ten_steps() < as_it_was / 10
