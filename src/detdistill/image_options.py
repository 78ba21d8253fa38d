"""The size of a detector's images and how training varies them. Readable without torch: recipes are made of it."""

from __future__ import annotations

from dataclasses import dataclass

from detdistill.errors import DetdistillError


@dataclass(frozen=True)
class ImageOptions:
    """The detector's image size, and how training varies the images.

    Attributes:
        short_side: Pixels of the shorter side after resizing, as far as `long_side` allows.
        long_side: Upper limit of the longer side, in pixels.
        letterbox: Side of a square in pixels: images are fitted into it, and every batch has exactly this size;
            `short_side` and `long_side` then do not count.
        flip: Probability of a horizontal flip in training.
        scale_jitter: Smallest and largest factor on the size in training; what exceeds the usual size is cropped at
            random. (1, 1) is no jitter.
        photometric: Probability of random brightness, contrast and saturation in training, in the ranges of SSD (Liu
            et al. 2016, as torchvision and mmdetection have them).
        hue: Largest shift of the hue with it, 0 to 0.5 of the colour circle. Slow: takes longer than all else.
    """

    short_side: int = 800
    long_side: int = 1333
    letterbox: int | None = None
    flip: float = 0.5
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    photometric: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        """Raises `DetdistillError` for a value out of range."""
        rules = {
            "short_side must be at least 1": self.short_side >= 1,
            "long_side must be at least short_side": self.long_side >= self.short_side,
            "letterbox must be at least 1": self.letterbox is None or self.letterbox >= 1,
            "flip must be a probability, 0 to 1": 0 <= self.flip <= 1,
            "scale_jitter must be (smallest, largest), above 0": 0 < self.scale_jitter[0] <= self.scale_jitter[1],
            "photometric must be a probability, 0 to 1": 0 <= self.photometric <= 1,
            "hue must lie between 0 and 0.5": 0 <= self.hue <= 0.5,
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise DetdistillError(f"image options: {'; '.join(broken)} (given: {self})")

    @property
    def varies(self) -> bool:
        """Whether training varies an image at random."""
        return bool(self.flip or self.photometric or self.scale_jitter != (1.0, 1.0))

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that an image of `size` is resized to: the ratio is kept to the nearest pixel."""
        short, long = (self.letterbox,) * 2 if self.letterbox else (self.short_side, self.long_side)
        return scaled(size, min(short / min(size), long / max(size)))


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width times `factor`, to the nearest pixel, at least 1."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
