from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.analysis.analyzing import analyze
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.structures import Detections
from detdistill.data.opening import open_dataset
from detdistill.data.source import DatasetSource
from detdistill.detectors.saving import save_detector
from support.small_runs import write_boxes, write_teacher
from support.tiny_detector import tiny_detector


def write_run(folder: Path, *, seed: int, provenance: Mapping[str, object] | None = None) -> Path:
    detector = tiny_detector("gfl", ("green", "red"), seed=seed)
    save_detector(detector, folder, image_size=ImageSize(short_side=64, long_side=64), provenance=provenance)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


def test_a_page_from_run_folders(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = {"data": {"annotations_sha256": open_dataset(data, "val").fingerprint}}
    teacher, student = write_run(tmp_path / "teacher", seed=0), write_run(tmp_path / "a", seed=1, provenance=seen)
    found = analyze(teacher, [student], DatasetSource(data, "val"), tmp_path / "out")
    assert found.page == tmp_path / "out" / "analysis.html"
    assert found.page.exists()
    assert [one.name for one in found.measured.students] == ["a"]
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert found.verdict
    assert f"{student} was trained on these images" in capsys.readouterr().err


def test_mistakes_are_told_before_the_work(data: Path, tmp_path: Path) -> None:
    teacher, student = write_run(tmp_path / "teacher", seed=0), write_run(tmp_path / "a", seed=1)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "analysis.json").symlink_to(student / "model.json")
    before = (student / "model.json").read_bytes()
    with pytest.raises(DetdistillError, match="at least one run folder"):
        analyze(teacher, [], data, tmp_path / "new")
    with pytest.raises(DetdistillError, match="given twice"):
        analyze(teacher, [student, student], data, tmp_path / "new")
    with pytest.raises(DetdistillError, match="does not tell the size of images"):
        analyze(teacher, [write_teacher(tmp_path / "unknown")], data, tmp_path / "new")
    with pytest.raises(DetdistillError, match=r"--out .*would replace the input"):
        analyze(teacher, [student], DatasetSource(data, "val"), tmp_path / "out")
    assert (student / "model.json").read_bytes() == before
    assert not (tmp_path / "new").exists()


class OneBox:
    """A function that finds the same box in every image."""

    classes = ("green", "red")

    def __call__(self, images: Tensor, sizes: Tensor) -> list[Detections]:  # noqa: ARG002 (the contract's)
        box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
        return [Detections(box, torch.tensor([0.9]), torch.tensor([1])) for _ in images]


def test_any_teacher_is_analyzed(data: Path, tmp_path: Path) -> None:
    """A function, and a folder joined with itself: of both there are boxes."""
    teacher, student = write_run(tmp_path / "teacher", seed=0), write_run(tmp_path / "a", seed=1)
    givens: tuple[Any, ...] = (OneBox(), [teacher, teacher])
    for number, given in enumerate(givens):
        found = analyze(given, [student], DatasetSource(data, "val"), tmp_path / f"out{number}")
        (one,) = found.measured.students
        assert one.opinions_order.AP is not None
        assert one.observation.sources.has_grid == (one.teachers_order is not None)
    with pytest.raises(DetdistillError, match="teacher: none given"):
        analyze([], [student], DatasetSource(data, "val"), tmp_path / "out")


def test_a_file_in_the_place_of_the_folder_is_told(data: Path, tmp_path: Path) -> None:
    teacher, student = write_run(tmp_path / "teacher", seed=0), write_run(tmp_path / "a", seed=1)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DetdistillError, match="file"):
        analyze(teacher, [student], DatasetSource(data, "val"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
