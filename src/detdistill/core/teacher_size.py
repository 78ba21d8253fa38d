"""The size of the images that a teacher reads, where it is not the student's. Importable without torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Self, TypeVar

from pydantic import Field, model_validator

from detdistill.core.bounds import LARGEST_SIDE
from detdistill.core.errors import SettingsError
from detdistill.core.image_options import CANVAS_MULTIPLE, CanvasSide, ImageSize, rounded_up
from detdistill.core.settings import settings

SAME_SIZE = Fraction(1)
"""The ratio of a teacher that reads the student's images."""

SizeT = TypeVar("SizeT", bound=ImageSize)
TeacherSide = Annotated[int, Field(ge=CANVAS_MULTIPLE, le=LARGEST_SIDE)]

_SHOWN = 4  # sizes that a message lists


@settings
class TeacherSize:
    """The size of the images that a teacher reads: that of the student times one ratio.

    What is not given follows from the student's size and that ratio.

    Raises:
        SettingsError: Nothing is given, or a value is out of range.
    """

    short_side: TeacherSide | None = None
    """Pixels of the shorter side, at least 32."""
    long_side: TeacherSide | None = None
    """Upper limit of the longer side, in pixels. Default: follows from `short_side`."""
    letterbox: TeacherSide | None = None
    """Side of a square canvas in pixels, at least 32; for students with `images.letterbox`."""
    canvas: tuple[CanvasSide, CanvasSide] | None = None
    """Height and width of one canvas for all images, in pixels; for students with `images.canvas`, from which it
    follows."""

    @model_validator(mode="after")
    def _is_given(self) -> Self:
        if all(value is None for value in vars(self).values()):
            raise ValueError("teacher_images holds no size; give short_side, or letterbox, or set it to null")
        return self

    def ratio(self, student: ImageSize) -> Fraction:
        """Return how many times larger than the student's the teacher's images are.

        Args:
            student: Size of the student's images.

        Raises:
            SettingsError: One side is given by another rule than the student's, or there is no one ratio.
        """
        given, own = _sides(self, student), _sides(student, student)
        if not given or bool(self.letterbox) != bool(student.letterbox) or (self.canvas and not student.canvas):
            raise self._refused(student, f"; images has {in_words(student)}, expected the same rule", (2,))
        ratios = [Fraction(side, own[name]) for name, side in given.items()]
        for ratio in ratios:
            agrees = all(
                side == _covered(own[name], ratio) if name.startswith("canvas") else abs(side - own[name] * ratio) < 1
                for name, side in given.items()
            )
            if agrees:
                at_ratio(student, ratio)  # refuses what is out of range
                return ratio
        factors = ", ".join(
            f"{name} is {float(ratio):.3g} times images.{name} {own[name]}"
            for name, ratio in zip(given, ratios, strict=True)
        )
        raise self._refused(student, f": {factors}; expected one ratio", ratios)

    def _refused(self, student: ImageSize, why: str, ratios: Iterable[Fraction | int]) -> SettingsError:
        given = {name: value for name, value in vars(self).items() if isinstance(value, int | tuple)}
        words = ", ".join(f"{name} {value}" for name, value in given.items())
        return SettingsError(f"distill.teacher_images: {words}{why}, for example {examples(student, ratios)}")


def at_ratio(size: SizeT, ratio: Fraction) -> SizeT:
    """Return a size of images times a ratio; how images vary stays as it is.

    Raises:
        SettingsError: A side is out of range.
    """
    if ratio == SAME_SIZE:
        return size
    if size.letterbox is not None:
        return replace(size, letterbox=_side("letterbox", size.letterbox, ratio))
    short = _side("short_side", size.short_side, ratio)
    long = max(short, _side("long_side", size.long_side, ratio))
    return replace(
        size, short_side=short, long_side=long, canvas=None if size.canvas is None else canvas_at(size.canvas, ratio)
    )


def at_ratio_of(size: tuple[int, int], ratio: Fraction) -> tuple[int, int]:
    """Return height and width times a ratio, to the nearest pixel, at least 1."""
    height, width = (max(1, round(side * ratio)) for side in size)
    return height, width


def canvas_at(canvas: tuple[int, int], ratio: Fraction) -> tuple[int, int]:
    """Return the smallest canvas, height and width in pixels, that covers another one times a ratio."""
    height, width = (_covered(side, ratio) for side in canvas)
    return height, width


def examples(student: ImageSize, ratios: Iterable[Fraction | int]) -> str:
    """Name sizes of a teacher for a message, of those that are in range the first few.

    Args:
        student: Size of the student's images.
        ratios: Of the teacher's size to it.
    """
    found = []
    for ratio in dict.fromkeys(map(Fraction, ratios)):
        try:
            found.append(f"{in_words(at_ratio(student, ratio))} (ratio {float(ratio):.4g})")
        except SettingsError:
            continue
    return "; ".join(found[:_SHOWN]) or "null"


def in_words(size: ImageSize) -> str:
    """Name a size by its settings."""
    if size.letterbox is not None:
        return f"letterbox {size.letterbox}"
    canvas = "" if size.canvas is None else f", canvas {list(size.canvas)}"
    return f"short_side {size.short_side}, long_side {size.long_side}{canvas}"


def _sides(size: ImageSize | TeacherSize, student: ImageSize) -> dict[str, int]:
    """What of a size decides the ratio, by name, what decides it best first."""
    if student.letterbox is not None:
        named = {"letterbox": size.letterbox}
    else:
        height, width = size.canvas or (None, None)
        named = {
            "short_side": size.short_side,
            "long_side": size.long_side,
            "canvas[0]": height,
            "canvas[1]": width,
        }
    return {name: side for name, side in named.items() if side is not None}


def _covered(side: int, ratio: Fraction) -> int:
    """The side of a canvas that covers another one times a ratio."""
    return rounded_up(-(-side * ratio.numerator // ratio.denominator))


def _side(name: str, side: int, ratio: Fraction) -> int:
    found = max(1, round(side * ratio))
    if not CANVAS_MULTIPLE <= found <= LARGEST_SIDE:
        raise SettingsError(
            f"distill.teacher_images: {name} would be {found} pixels (images.{name} {side}, ratio {float(ratio):.4g}); "
            f"expected {CANVAS_MULTIPLE} to {LARGEST_SIDE:,}"
        )
    return found
