from __future__ import annotations

from typing import Any

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import Architecture, Towers


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 0}, "architecture: channels must be at least 1, not 0"),
        ({"extra_levels": -1}, "extra_levels must be at least 0, not -1"),
        ({"backbone_width": 0.0}, "backbone_width must be above 0, not 0.0"),
        ({"backbone_channels": (8, 8, 16)}, r"backbone_channels must be four numbers of at least 1, not \(8, 8, 16\)"),
        ({"backbone_channels": (8, 8, 16, 0)}, r"four numbers of at least 1, not \(8, 8, 16, 0\)"),
        ({"channels": 0, "extra_levels": -1}, "channels must .*; extra_levels must"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DetdistillError, match=message):
        Architecture(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 0}, "architecture: towers.channels must be at least 1, not 0"),
        ({"depth": -1}, "towers.depth must be at least 0, not -1"),
        ({"groups": 0}, "towers.groups must be at least 1, not 0"),
    ],
)
def test_towers_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DetdistillError, match=message):
        Towers(**values)
