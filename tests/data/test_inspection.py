from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.data.inspection import SIDE_EDGES, inspect_dataset, undecodable_images


def record(name: str, size: tuple[int, int], objects: list[tuple[int, float, bool, bool]]) -> ImageRecord:
    """Objects are (label, side of a square box, crowd, difficult); half of the box is annotated as area."""
    sides = np.array([side for _, side, _, _ in objects], np.float64)
    zeros = np.zeros_like(sides)
    return ImageRecord(
        image_id=name,
        path=Path(name),
        file_name=name,
        width=size[0],
        height=size[1],
        boxes=np.stack((zeros, zeros, sides, sides), axis=1),
        labels=np.array([label for label, *_ in objects], np.int64),
        areas=sides**2 / 2,
        crowd=np.array([crowd for *_, crowd, _ in objects], bool),
        difficult=np.array([difficult for *_, difficult in objects], bool),
    )


def test_known_counts() -> None:
    images = (
        # Sides 40 and 45: areas 800 and 1012.5, both small; 46: 1058, medium; 136: 9248, large.
        record("a", (640, 480), [(0, 40, False, False), (0, 46, False, True), (1, 136, False, False)]),
        record("b", (100, 100), [(0, 45, False, False), (0, 300, True, False)]),
        record("c", (500, 500), []),
        record("d", (200, 100), [(1, 600, True, False)]),
    )
    found = inspect_dataset(DetectionDataset("test", ("cat", "dog", "none"), (7, 9, 11), ImageTable.of(images)))
    cat, dog, none = found.classes
    assert (cat.name, cat.category_id) == ("cat", 7)
    assert (cat.objects, cat.images, cat.small, cat.medium, cat.large, cat.difficult, cat.crowd) == (
        3,
        2,
        2,
        1,
        0,
        1,
        1,
    )
    assert (dog.objects, dog.images, dog.small, dog.medium, dog.large, dog.difficult, dog.crowd) == (
        1,
        1,
        0,
        0,
        1,
        0,
        1,
    )
    assert (none.objects, none.images) == (0, 0)
    assert (found.images, found.without_objects, found.most_objects) == (4, 2, 3)
    assert found.image_sizes == ((100, 100), (500, 500), (640, 480))
    # The boxes' own sides, without the crowd regions.
    expected = dict.fromkeys(SIDE_EDGES, 0) | {32: 3, 128: 1}
    assert dict(zip(SIDE_EDGES, found.box_sides, strict=True)) == expected


@pytest.mark.parametrize(("side", "edge"), [(7.99, 0), (8, 8), (31.9, 24), (32, 32), (512, 512), (9000, 512)])
def test_bins_include_their_lower_bound(side: float, edge: int) -> None:
    data = DetectionDataset("test", ("a",), (1,), ImageTable.of([record("a", (9, 9), [(0, side, False, False)])]))
    assert inspect_dataset(data).box_sides[SIDE_EDGES.index(edge)] == 1


def test_a_data_set_without_objects() -> None:
    found = inspect_dataset(DetectionDataset("test", ("a",), (1,), ImageTable.of([record("a", (9, 9), [])])))
    assert (found.without_objects, found.most_objects, sum(found.box_sides)) == (1, 0, 0)


def test_every_undecodable_image_is_found_and_is_fatal(tmp_path: Path) -> None:
    records = [record(str(tmp_path / name), (8, 8), []) for name in ("good.png", "cut.png", "missing.png", "other.png")]
    for image in records[:2]:
        Image.new("RGB", (8, 8)).save(image.path)
    records[1].path.write_bytes(records[1].path.read_bytes()[:40])
    Image.new("RGB", (9, 5)).save(records[3].path)
    problems = undecodable_images(DetectionDataset("set.json", (), (), ImageTable.of(records)))
    assert [Path(problem.where.removeprefix("set.json: image ").strip("'")).name for problem in problems] == [
        "cut.png",
        "missing.png",
        "other.png",
    ]
    assert all(problem.fatal for problem in problems)
    assert "9x5" in problems[2].what
    assert "8x8" in problems[2].what
