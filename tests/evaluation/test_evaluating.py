from __future__ import annotations

import json
from pathlib import Path

import pytest

from detdistill.cli import main
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.data.opening import open_dataset
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.saving import save_detector
from detdistill.evaluation.evaluating import evaluate, scores_of
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector

SIZE = ImageSize(letterbox=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


def saved(folder: Path, data: Path, size: ImageSize | None = SIZE) -> Path:
    """A detector of random weights that finds something everywhere, trained on `train` by its record."""
    dataset = open_dataset(data, "train")
    detector = tiny_detector("atss", dataset.classes)
    detector.postprocessing = PostProcessing(score_threshold=0.0, candidates_per_level=50, max_detections=30)
    provenance = {"data": {"annotations_sha256": dataset.fingerprint}}
    save_detector(detector, folder, image_size=size, provenance=provenance)
    return folder


def test_the_command_prints_and_writes_what_python_returns(data: Path, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", data)
    found = evaluate(run, open_dataset(data, "val"), device="cpu")
    words = ["evaluate", str(run), "--data", str(data), "--split", "val", "--device", "cpu"]
    assert main([*words, "--json", str(tmp_path / "scores.json")]) == 0
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["AP"] == found.scores.AP
    assert written["best_f1"].keys() == found.best_f1.keys() == set(found.dataset.classes)
    assert found.thresholds == {name: point["threshold"] for name, point in written["best_f1"].items() if point}
    assert len(found.results) > 30


def test_a_warning_for_images_that_were_trained_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(tmp_path / "run", data)
    evaluate(run, open_dataset(data, "val"))
    assert "was trained on these images" not in capsys.readouterr().err
    evaluate(run, open_dataset(data, "train"))
    assert "was trained on these images" in capsys.readouterr().err


def test_the_size_and_the_protocol_can_be_chosen(data: Path, tmp_path: Path) -> None:
    run, dataset = saved(tmp_path / "run", data, size=None), open_dataset(data, "val")
    with pytest.raises(DetdistillError, match=r"model\.json: no image_size"):
        evaluate(run, dataset)
    found = evaluate(run, dataset, short_side=64, long_side=64, canvas=(64, 96), protocol="voc10", class_agnostic=True)
    assert found.scores.AP is None
    assert found.scores.AP50 is not None
    assert found.scores.AP50 == scores_of(found.dataset, found.results, "voc10").AP50
