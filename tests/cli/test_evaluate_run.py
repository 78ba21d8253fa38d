from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detdistill.cli import main
from detdistill.core.image_options import ImageSize
from detdistill.data.opening import open_dataset
from detdistill.detectors.description import write_description
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import read_description
from support.tiny_detector import tiny_detector


@pytest.fixture
def run(photographs: Path, tmp_path: Path) -> Path:
    """A detector of random weights with the classes of `bccd`, which finds something everywhere."""
    detector = tiny_detector("atss", open_dataset(photographs / "bccd", "val").classes)
    detector.postprocessing = PostProcessing(score_threshold=0.0, candidates_per_level=50, max_detections=30)
    save_detector(detector, tmp_path / "run", image_size=ImageSize(96, 128))
    return tmp_path / "run"


def evaluate(photographs: Path, *words: str) -> dict[str, Any]:
    out = Path(words[0]) / "numbers.json"
    assert main(["evaluate", *words, "--data", f"{photographs}/bccd", "--split", "val", "--json", str(out)]) == 0
    numbers: dict[str, Any] = json.loads(out.read_text())
    return numbers


def test_a_run_is_scored_like_the_detections_it_writes(run: Path, photographs: Path, tmp_path: Path) -> None:
    found, again = tmp_path / "found.json", tmp_path / "again.json"
    numbers = evaluate(photographs, str(run), "--out", str(found), "--batch-size", "16", "--channels-last")
    data = ("--data", str(photographs / "bccd"), "--split", "val")
    assert main(["evaluate", "--detections", str(found), *data, "--json", str(again)]) == 0
    scores = json.loads(again.read_text())
    assert {key: numbers[key] for key in scores} == scores
    assert len(json.loads(found.read_text())) > 30
    assert 0 <= numbers["AP50"] < 1


def test_best_thresholds_are_points_of_the_curve_and_kept_on_request(
    run: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(photographs, str(run))
    assert read_description(run).score_thresholds is None
    numbers = evaluate(photographs, str(run), "--store-thresholds")
    best = {name: point for name, point in numbers["best_f1"].items() if point is not None}
    assert best
    assert read_description(run).score_thresholds == {name: point["threshold"] for name, point in best.items()}
    for name, point in best.items():
        curve = numbers["precision_recall"][name]
        assert max(curve["recall"]) >= point["recall"]
        assert len(curve["thresholds"]) == len(curve["precision"]) <= 101
        assert point["f1"] == pytest.approx(2 / (1 / point["precision"] + 1 / point["recall"]), abs=1e-9)
    said = capsys.readouterr().out
    assert f"the thresholds of {len(best)} classes are kept in {run / 'model.json'}" in said
    assert "score from" in said


def test_scores_on_training_images_come_with_a_warning(
    run: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(photographs, str(run))
    assert "WARNING" not in capsys.readouterr().err
    seen = open_dataset(photographs / "bccd", "val").fingerprint
    write_description(run, replace(read_description(run), provenance={"data": {"annotations_sha256": seen}}))
    evaluate(photographs, str(run))
    assert f"WARNING: {run} was trained on these images" in capsys.readouterr().err


def test_voc_protocol_and_another_size(run: Path, photographs: Path) -> None:
    numbers = evaluate(photographs, str(run), "--protocol", "voc07", "--short-side", "64", "--batch-size", "16")
    assert numbers["AP"] is None
    assert numbers["AP50"] is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give either the folder of a run, or --detections FILE"),
        (["run", "--detections", "found.json"], "Give either the folder of a run, or --detections FILE"),
        (["--detections", "found.json", "--out", "again.json"], "need the folder of a run, not --detections"),
        (["--detections", "found.json", "--store-thresholds"], "need the folder of a run, not --detections"),
        (["absent"], "absent holds no model.json"),
    ],
)
def test_mistakes_are_told(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *words, "--data", "somewhere"]) == 1
    assert said in capsys.readouterr().err


def test_an_unknown_image_size_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_detector(tiny_detector(), tmp_path)
    assert main(["evaluate", str(tmp_path), "--data", "somewhere"]) == 1
    assert "give it with --short-side and --long-side" in capsys.readouterr().err


def test_other_classes_are_named(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_detector(tiny_detector(classes=("cat", "dog")), tmp_path, image_size=ImageSize(96, 128))
    assert main(["evaluate", str(tmp_path), "--data", f"{photographs}/bccd", "--split", "val"]) == 1
    assert "are not among the expected ones ('cat', 'dog')" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_detector(tiny_detector(), tmp_path, image_size=ImageSize(96, 128))
    assert main(["evaluate", str(tmp_path), "--data", "somewhere", "--device", "toaster"]) == 1
    assert "device 'toaster' cannot be used here" in capsys.readouterr().err
