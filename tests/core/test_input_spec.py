from __future__ import annotations

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.core.input_spec import InputSpec


@pytest.mark.parametrize("canvas", [(32, 32), (64, 96), (320, 1024)])
def test_any_multiple_is_read(canvas: tuple[int, int]) -> None:
    InputSpec().check_canvas(canvas)


@pytest.mark.parametrize(
    ("spec", "canvas", "said"),
    [
        (InputSpec(), (48, 64), "canvas 48x64: expected sides that are multiples of 32 pixels"),
        (InputSpec(multiple=128), (128, 192), "canvas 128x192: expected sides that are multiples of 128 pixels"),
        (InputSpec(canvas=(64, 96)), (96, 64), r"reads 64x96 pixels only; set images\.canvas to \[64, 96\]"),
    ],
)
def test_another_canvas_is_refused(spec: InputSpec, canvas: tuple[int, int], said: str) -> None:
    with pytest.raises(DetdistillError, match=said):
        spec.check_canvas(canvas)
