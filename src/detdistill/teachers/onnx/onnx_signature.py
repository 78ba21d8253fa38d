"""What an exporter's outputs mean, and what several exporters have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_CHANGE: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Signature:
    """What an exporter's outputs mean.

    Attributes:
        name: of the exporter and the form.
        values: fields of the card that follow from it.
        classes: class names in the file; None if it has none.
        notes: what a user should know, a line each.
    """

    name: str
    values: Mapping[str, Any]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())


def cells(size: tuple[int, int], strides: tuple[int, ...]) -> int | None:
    """Return the number of cells of a canvas (height, width); None if a stride does not divide it."""
    if any(stride < 1 or side % stride for side in size for stride in strides):
        return None
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)
