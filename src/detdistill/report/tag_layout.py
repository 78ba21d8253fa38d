"""Positions of the tags that name boxes: attached to their own box, never to be read as a neighbour's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Rect = tuple[int, int, int, int]
"""x1 y1 x2 y2 in whole pixels; x2 and y2 are the first pixels outside."""

SAME_PLACE = 0.7
"""IoU from which two boxes count as boxes of one place: a viewer cannot tell which of the two a tag belongs to."""
LARGEST_INSIDE = 0.5
"""Share of its own box that a tag inside it may cover."""
LARGEST_COVER = 0.15
"""Share of another box that a tag may cover."""


def group_by_place(iou: NDArray[np.float64], may_join: Sequence[bool]) -> list[list[int]]:
    """Group boxes that lie on one another.

    Greedy: the best box that has no group yet starts one, and takes all boxes without a group whose IoU with it is
    `SAME_PLACE` or more.

    Args:
        iou: `(N, N)` intersection over union, best box first.
        may_join: for each box, whether it may share a group; a box that may not is a group of its own.

    Returns:
        The groups, best first; in each the numbers of its boxes, best first.
    """
    free = np.ones(len(iou), dtype=bool)
    joins = np.asarray(may_join, dtype=bool)
    groups: list[list[int]] = []
    for first in range(len(iou)):
        if not free[first]:
            continue
        members = free & joins & (iou[first] >= SAME_PLACE) if joins[first] else np.zeros_like(free)
        members[first] = True
        free &= ~members
        groups.append(np.flatnonzero(members).tolist())
    return groups


@dataclass
class TagLayout:
    """Finds room for one tag after another; the first has the free choice.

    A tag stands on the upper edge of its box, at its left or right end, or inside in a corner. It lies within the
    canvas and overlaps no earlier tag. It is never below its box, because there it reads as the tag of the box below.
    It also keeps away from the upper and lower edges of other boxes. Where that leaves no room, it may lie on the edge
    of a box of another colour, because tags have their box's colour.

    Attributes:
        canvas: width and height in pixels.
        boxes: `(N, 4)` all boxes that are drawn, in whole pixels, `x2` and `y2` exclusive.
        colors: `(N,)` numbers; equal numbers for equal colours.
        iou: `(N, N)` intersection over union of the boxes.
        reach: pixels within which a tag seems to belong to an edge.
        gap: pixels between two tags beside each other.
        taken: rectangles of the tags so far.
    """

    canvas: tuple[int, int]
    boxes: NDArray[np.int64]
    colors: NDArray[np.int64]
    iou: NDArray[np.float64]
    reach: int
    gap: int
    taken: list[Rect] = field(default_factory=list)

    def place(self, index: int, size: tuple[int, int], *, instead_of: Rect | None = None) -> Rect | None:
        """Reserve a place for the tag of a box.

        Args:
            index: number of the box.
            size: width and height of the tag in pixels.
            instead_of: the place that this tag has already; it is given up if there is room for the new one.

        Returns:
            The tag's rectangle, or None where there is no room.
        """
        x1, y1, x2, y2 = self.boxes[index].tolist()
        visible = max(x1, 0), max(y1, 0), min(x2, self.canvas[0]), min(y2, self.canvas[1])
        if visible[0] >= visible[2] or visible[1] >= visible[3]:
            return None
        elsewhere = self.iou[index] < SAME_PLACE
        elsewhere[index] = False  # the IoU of a box without area is 0 even with itself
        taken = [one for one in self.taken if one != instead_of]
        candidates = [one for one in positions(visible, size) if self._has_room(one, taken, elsewhere)]
        others, same_color = self.boxes[elsewhere], self.boxes[elsewhere & (self.colors == self.colors[index])]
        for rivals in (others, same_color):
            for tag in candidates:
                beyond = _beyond(tag, visible, self.reach)
                astray = reads_as_tag_of(beyond, others, self.reach) | _runs_across(beyond, others)
                if not (astray.any() or reads_as_tag_of(tag, rivals, self.reach).any()):
                    self.taken = [*taken, tag]
                    return tag
        return None

    def _has_room(self, tag: Rect, taken: Sequence[Rect], elsewhere: NDArray[np.bool_]) -> bool:
        if tag[0] < 0 or tag[1] < 0 or tag[2] > self.canvas[0] or tag[3] > self.canvas[1]:
            return False
        # Room below a tag keeps the line in sight that it stands on.
        spaced = tag[0] - self.gap, tag[1] - self.reach, tag[2] + self.gap, tag[3] + self.reach
        if taken and (_common(spaced, np.array(taken)) > 0).any():
            return False
        others = self.boxes[elsewhere]
        areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
        return bool((_common(tag, others) <= LARGEST_COVER * areas).all())


def positions(box: Rect, size: tuple[int, int]) -> list[Rect]:
    """Rectangles where the tag of a box may stand, best first: on the upper edge, then inside where it fits."""
    x1, y1, x2, y2 = box
    width, height = size
    lefts = x1, x2 - width
    tops = [y1 - height]
    if width <= x2 - x1 and height <= y2 - y1 and width * height <= LARGEST_INSIDE * (x2 - x1) * (y2 - y1):
        tops += [y1, y2 - height]
    return [(left, top, left + width, top + height) for top in tops for left in lefts]


def reads_as_tag_of(tag: Rect, boxes: NDArray[np.int64], reach: int) -> NDArray[np.bool_]:
    """Whether a viewer may take a tag for that of each of the boxes `(N, 4)`.

    That is so where the tag stands on a box's upper edge, or inside the box at its upper or lower edge, all within
    `reach` pixels.
    """
    x1, y1, x2, y2 = tag
    tops, bottoms = boxes[:, 1], boxes[:, 3]
    side_by_side = np.minimum(x2, boxes[:, 2]) - np.maximum(x1, boxes[:, 0]) > reach
    on_top = np.abs(y2 - tops) <= reach
    inside = np.minimum(y2, bottoms) - np.maximum(y1, tops) > reach
    at_edge = (np.abs(y1 - tops) <= reach) | (np.abs(y2 - bottoms) <= reach)
    crossed = ((y1 < tops) & (tops < y2)) | ((y1 < bottoms) & (bottoms < y2))
    return side_by_side & (on_top | (inside & (at_edge | crossed)))


def _beyond(tag: Rect, box: Rect, reach: int) -> Rect:
    """The part of a tag to the left or right of its box, without width if the box is as wide as the tag.

    It is `reach` pixels higher than the tag: here no line joins the tag to its box, so what is below must be farther.
    """
    x1, y1, x2, y2 = tag
    return (x1, y1, min(x2, box[0]), y2 + reach) if x1 < box[0] else (max(x1, box[2]), y1, x2, y2 + reach)


def _runs_across(rect: Rect, boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a rectangle lies over more than half of the width of each of the boxes `(N, 4)`."""
    width = np.minimum(rect[2], boxes[:, 2]) - np.maximum(rect[0], boxes[:, 0])
    return (_common(rect, boxes) > 0) & (2 * width > boxes[:, 2] - boxes[:, 0])


def _common(rect: Rect, others: NDArray[np.int64]) -> NDArray[np.int64]:
    """`(N,)` pixels that a rectangle has in common with others `(N, 4)`."""
    width = np.minimum(rect[2], others[:, 2]) - np.maximum(rect[0], others[:, 0])
    height = np.minimum(rect[3], others[:, 3]) - np.maximum(rect[1], others[:, 1])
    return np.asarray(np.clip(width, 0, None) * np.clip(height, 0, None), dtype=np.int64)
