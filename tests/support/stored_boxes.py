"""Teacher boxes and stored detections of any content, for properties and hand-made cases."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset
from detdistill.core.packed_texts import PackedTexts
from detdistill.core.structures import TeacherBoxes
from detdistill.data.stored_detections import BoxColumns, StoredDetections
from detdistill.data.stored_images import ImagesByPath

CLASSES = ("green", "red", "blue")
unit = st.floats(0, 1, width=32)


@st.composite
def teacher_boxes(draw: st.DrawFn, classes: int = 3, side: int = 64) -> TeacherBoxes:
    """Boxes inside an image of this side, with any probabilities of all classes; the floor is 0.05."""
    count = draw(st.integers(0, 4))
    corners = [[draw(unit) * side for _ in range(4)] for _ in range(count)]
    boxes = torch.tensor([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]).reshape(-1, 4)
    labels = torch.tensor([draw(st.integers(0, classes - 1)) for _ in range(count)], dtype=torch.int64)
    known = torch.tensor([[draw(unit) for _ in range(classes)] for _ in range(count)]).reshape(-1, classes)
    return TeacherBoxes(boxes.float(), labels, known.float(), 0.05)


def boxes_of(*rows: tuple[float, ...], classes: int = 3, floor: float = 0.05) -> TeacherBoxes:
    """Boxes from rows of x1, y1, x2, y2, label, score."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    labels = table[:, 4].long()
    probabilities = torch.zeros(len(table), classes).scatter(1, labels[:, None], table[:, 5:])
    return TeacherBoxes(table[:, :4], labels, probabilities, floor)


def stored_for(
    dataset: DetectionDataset, found: Sequence[TeacherBoxes], classes: Sequence[str], floor: float = 0.05
) -> StoredDetections:
    """What was found in each image of a dataset."""
    images = ImagesByPath(PackedTexts.of(dataset.images.paths))
    return StoredDetections(tuple(classes), images, BoxColumns.of(found, len(classes)), floor)


def assert_same_boxes(one: TeacherBoxes, other: TeacherBoxes, tolerance: float = 0) -> None:
    torch.testing.assert_close(one.boxes, other.boxes, atol=tolerance, rtol=0)
    torch.testing.assert_close(one.probabilities, other.probabilities, atol=tolerance, rtol=0)
    assert one.labels.tolist() == other.labels.tolist()
    assert one.floor == other.floor
