"""What images a detector reads."""

from __future__ import annotations

from detdistill.core.bounds import Side
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import CANVAS_MULTIPLE, ImageSize
from detdistill.core.normalization import IMAGENET, Normalization
from detdistill.core.settings import settings


@settings
class InputSpec:
    """What images a detector reads."""

    normalization: Normalization = IMAGENET
    """Turns a batch of 0..255 RGB images into what `forward` takes."""
    size: ImageSize | None = None
    """Image size that the detector was trained for; None if that is not known."""
    multiple: Side = CANVAS_MULTIPLE
    """Canvas sides are multiples of this, in pixels."""
    canvas: tuple[Side, Side] | None = None
    """Height and width of the only canvas that the detector reads, in pixels; None if any multiple will do."""

    def check_canvas(self, canvas: tuple[int, int]) -> None:
        """Raises `DetdistillError` for a canvas (height, width) that the detector does not read."""
        if self.canvas is not None and canvas != self.canvas:
            raise DetdistillError(
                f"canvas {canvas[0]}x{canvas[1]}: this detector reads {self.canvas[0]}x{self.canvas[1]} pixels only; "
                f"set images.canvas to [{self.canvas[0]}, {self.canvas[1]}]"
            )
        if any(side % self.multiple for side in canvas):
            raise DetdistillError(
                f"canvas {canvas[0]}x{canvas[1]}: expected sides that are multiples of {self.multiple} pixels"
            )
