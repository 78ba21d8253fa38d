"""Image size, canvas and augmentation. Importable without torch, because recipes are made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from detdistill.core.bounds import LARGEST_SIDE, PositiveFactor, Probability, Side
from detdistill.core.errors import DetdistillError
from detdistill.core.settings import settings

CANVAS_MULTIPLE = 32
"""Canvas sides are multiples of this, in pixels, as mmdetection and torchvision measured their published scores."""

CanvasSide = Annotated[int, Field(ge=CANVAS_MULTIPLE, le=LARGEST_SIDE, multiple_of=CANVAS_MULTIPLE)]


@settings
class ImageSize:
    """The size of the images that a detector reads.

    An image is resized by its own size alone and stands in the upper left corner of a canvas that is chosen by its own
    size alone: what a detector finds in it depends on no other image of the batch.

    Raises:
        SettingsError: A value is out of range, or values contradict each other.
    """

    # Texts below fields would not reach the subclass.
    short_side: Annotated[
        Side, Field(description="Pixels of the shorter side after resizing, as far as `long_side` allows.")
    ] = 800
    long_side: Annotated[Side, Field(description="Upper limit of the longer side, in pixels.")] = 1333
    letterbox: Annotated[
        Side | None,
        Field(
            description="Side of a square canvas in pixels, rounded up to a multiple of 32, that every image is "
            "resized to fit. `short_side` and `long_side` are then ignored."
        ),
    ] = None
    canvas: Annotated[
        tuple[CanvasSide, CanvasSide] | None,
        Field(
            description="Height and width in pixels, multiples of 32, of one canvas for all images. Images that do not "
            "fit are shrunk. Default: each image has its own canvas, its resized size rounded up to multiples of 32."
        ),
    ] = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.long_side < self.short_side:
            raise ValueError(f"long_side must be at least short_side ({self.short_side}), not {self.long_side}")
        if self.letterbox is not None and self.canvas is not None:
            raise ValueError("letterbox and canvas exclude each other: set one of them to null")
        return self

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that an image of `size` is resized to; the ratio is kept to the nearest pixel."""
        short, long = (self.letterbox,) * 2 if self.letterbox else (self.short_side, self.long_side)
        factor = min(short / min(size), long / max(size))
        if self.canvas is not None:
            factor = min(factor, self.canvas[0] / size[0], self.canvas[1] / size[1])
        return scaled(size, factor)

    def canvas_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of the canvas of an image of `size`, multiples of 32."""
        if self.canvas is not None:
            return self.canvas
        height, width = (self.letterbox,) * 2 if self.letterbox else self.fitted(size)
        return rounded_up(height), rounded_up(width)


@settings
class ImageOptions(ImageSize):
    """The size of images, and how training varies them."""

    flip: Probability = 0.5
    """Probability of a horizontal flip in training."""
    scale_jitter: tuple[PositiveFactor, PositiveFactor] = (1.0, 1.0)
    """Smallest and largest factor on the size in training; what exceeds the usual size is cropped at random. `[1, 1]`
    is no jitter."""
    photometric: Probability = 0.0
    """Probability of random brightness, contrast and saturation in training, in the ranges of SSD (Liu et al. 2016, as
    torchvision and mmdetection have them)."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift of the hue with it, 0 to 0.5 of the colour circle. Slow: takes longer than all else."""

    @model_validator(mode="after")
    def _jitter_grows(self) -> Self:
        smallest, largest = self.scale_jitter
        if smallest > largest:
            raise ValueError(f"scale_jitter must be (smallest, largest), not ({smallest:g}, {largest:g})")
        return self

    @property
    def varies(self) -> bool:
        """Whether training varies an image at random."""
        return bool(self.flip or self.photometric or self.scale_jitter != (1.0, 1.0))

    @property
    def size(self) -> ImageSize:
        """The size alone."""
        return ImageSize(self.short_side, self.long_side, self.letterbox, self.canvas)


def options_for(
    trained: ImageSize | None,
    *,
    short_side: int | None = None,
    long_side: int | None = None,
    canvas: tuple[int, int] | None = None,
) -> ImageOptions:
    """Return the image size to run a detector with.

    Args:
        trained: The size that it was trained for; None if that is not known.
        short_side: Pixels of the shorter side, instead.
        long_side: Upper limit of the longer side in pixels, instead.
        canvas: Height and width in pixels, multiples of 32, of one canvas for all images.

    Raises:
        DetdistillError: No size is known.
    """
    if short_side is None and long_side is None:
        if trained is None:
            raise DetdistillError(
                "no image_size; expected the size of the images that the detector was trained on: give it with "
                "--short-side and --long-side (800 and 1333 in most published COCO models)"
            )
        options = ImageOptions(trained.short_side, trained.long_side, trained.letterbox, trained.canvas)
    else:
        usual = trained or ImageOptions()
        options = ImageOptions(
            short_side=usual.short_side if short_side is None else short_side,
            long_side=usual.long_side if long_side is None else long_side,
        )
    return options if canvas is None else on_fixed_canvas(options, canvas)


def canvas_of(height: int | None, width: int | None) -> tuple[int, int] | None:
    """Return the canvas that a height and a width name, or None if neither is given.

    Args:
        height: In pixels, a multiple of 32.
        width: In pixels, a multiple of 32.

    Raises:
        DetdistillError: Only one of them is given.
    """
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise DetdistillError(
            f"canvas of height {height} and width {width}: --height and --width belong together; give both, or neither"
        )
    return height, width


def on_fixed_canvas(options: ImageOptions, canvas: tuple[int, int]) -> ImageOptions:
    """Return the same image size on one canvas for all images, height and width in pixels."""
    if options.letterbox is None:
        return replace(options, canvas=canvas)
    if options.canvas_of((1, 1)) == canvas:
        return options
    # A letterbox limits both sides of the image by its own side.
    return replace(options, letterbox=None, short_side=options.letterbox, long_side=options.letterbox, canvas=canvas)


def rounded_up(side: int) -> int:
    """Return the smallest side of a canvas that is not below `side`, in pixels."""
    return -(-side // CANVAS_MULTIPLE) * CANVAS_MULTIPLE


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return height and width times `factor`, to the nearest pixel, at least 1."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
