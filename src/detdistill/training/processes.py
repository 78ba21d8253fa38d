"""Which of the processes of a run this is, before they have met. Readable without torch."""

from __future__ import annotations

import os
import sys

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""What torchrun, SLURM and pytorch-lightning number processes and machines by; all 0 in the first process."""


def is_first_process() -> bool:
    """Whether this is the process that prepares the folder and talks to people."""
    return not any(int(os.environ.get(name, "0")) for name in RANKS)


def note(text: str) -> None:
    """Tells the user something that a run does not stop for; of several processes the first one does."""
    if is_first_process():
        print(f"note: {text}", file=sys.stderr)
