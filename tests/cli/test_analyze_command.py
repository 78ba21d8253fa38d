from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.cli import main
from detdistill.core.image_options import ImageSize
from detdistill.detectors.saving import save_detector
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector


def write_run(folder: Path, *, seed: int) -> str:
    detector = tiny_detector("gfl", ("green", "red"), seed=seed)
    save_detector(detector, folder, image_size=ImageSize(short_side=64, long_side=64))
    return str(folder)


@pytest.mark.parametrize("repeated", [False, True])
def test_a_page_from_run_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str], repeated: bool) -> None:
    data = write_boxes(tmp_path / "data")
    teacher, first, second = (write_run(tmp_path / name, seed=seed) for seed, name in enumerate(("teacher", "a", "b")))
    students = ["--student", first, "--student", second] if repeated else ["--student", first, second]
    out = tmp_path / "out"
    words = ["analyze", "--teacher", teacher, *students, "--data", str(data), "--split", "val", "--out", str(out)]
    assert main(words) == 0
    starts = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert (starts.count("a"), starts.count("b")) == (1, 1), "findings on both students"
    assert (out / "analysis.html").exists()
