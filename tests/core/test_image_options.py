from __future__ import annotations

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import canvas_of


def test_a_canvas_has_both_sides_or_none() -> None:
    assert canvas_of(None, None) is None
    assert canvas_of(64, 96) == (64, 96)
    for height, width in ((64, None), (None, 64)):
        with pytest.raises(DetdistillError, match="--height and --width"):
            canvas_of(height, width)
