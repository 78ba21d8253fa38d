"""Measured values that a comparison keeps, so that they are measured once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detdistill.core.json_files import read_object


def read_kept(file: Path) -> dict[str, Any]:
    """Return the values of a JSON file by name; none if there is no file.

    Raises:
        DetdistillError: The file is damaged or cannot be read.
    """
    if not file.exists():
        return {}
    return read_object(file, "remove it, and its values are measured again")
