"""What a record says of the machine that it was made on."""

from __future__ import annotations

import os
import platform


def machine() -> str:
    """System, processor and number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
