"""Measured values that a comparison keeps, so that they are measured once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detdistill.core.errors import DetdistillError, first_line
from detdistill.core.files import read_json


def read_kept(file: Path) -> dict[str, Any]:
    """Return the values of a JSON file by name; none if there is no file.

    Raises:
        DetdistillError: The file is damaged or cannot be read.
    """
    if not file.exists():
        return {}
    try:
        values = read_json(file)
    except OSError as error:
        raise DetdistillError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DetdistillError(f"{file} is damaged ({first_line(error)}): {_WAY_OUT}") from error
    if not isinstance(values, dict):
        raise DetdistillError(f"{file} is damaged (expected values by name): {_WAY_OUT}")
    return values


_WAY_OUT = "remove it, and its values are measured again"
