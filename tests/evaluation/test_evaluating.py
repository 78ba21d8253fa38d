from __future__ import annotations

import json
from pathlib import Path

import pytest

from detdistill.cli import main
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.image_options import ImageSize
from detdistill.data.opening import open_dataset
from detdistill.data.source import DatasetSource
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import read_description
from detdistill.evaluation.evaluating import evaluate, evaluate_detections, scores_of, warn_if_trained_on
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
    assert not evaluate(run, open_dataset(data, "val")).trained_on
    assert "was trained on these images" not in capsys.readouterr().err
    assert evaluate(run, DatasetSource(data, "train")).trained_on
    assert "was trained on these images" in capsys.readouterr().err
    assert warn_if_trained_on(run, open_dataset(data, "train"))


def test_the_size_and_the_protocol_can_be_chosen(data: Path, tmp_path: Path) -> None:
    run, dataset = saved(tmp_path / "run", data, size=None), open_dataset(data, "val")
    with pytest.raises(DetdistillError, match=r"model\.json: no image_size"):
        evaluate(run, dataset)
    found = evaluate(run, dataset, short_side=64, long_side=64, canvas=(64, 96), protocol="voc10", class_agnostic=True)
    assert found.scores.AP is None
    assert found.scores.AP50 is not None
    assert found.scores.AP50 == scores_of(found.dataset, found.results, "voc10").AP50


def test_files_and_thresholds_are_written_on_request(data: Path, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", data)
    scores, detections, again = (tmp_path / name for name in ("scores.json", "found.json", "again.json"))
    val = DatasetSource(data, "val")
    found = evaluate(run, val, json=scores, detections=detections, keep_thresholds=True)
    assert json.loads(scores.read_text()) == found.to_values()
    assert read_description(run).score_thresholds == found.thresholds
    of_file = evaluate_detections(detections, val, json=again)
    assert of_file.scores == found.scores
    assert json.loads(again.read_text()) == of_file.to_values()
    assert found.to_values().items() >= of_file.to_values().items()


@pytest.mark.parametrize("which", ["json", "detections"])
@pytest.mark.parametrize("place", ["annotations", "image", "link", "model", "weights", "folder", "absent"])
def test_no_output_replaces_an_input(data: Path, tmp_path: Path, which: str, place: str) -> None:
    run = saved(tmp_path / "run", data)
    (tmp_path / "link").symlink_to(data / "val" / "0.png")
    output = {
        "annotations": data / "annotations" / "instances_train.json",
        "image": data / "val" / ".." / "val" / "0.png",
        "link": tmp_path / "link",
        "model": run / "model.json",
        "weights": run / "model.safetensors",
        "folder": run,
        "absent": tmp_path / "absent" / "x.json",
    }[place]
    before = {path: path.read_bytes() for folder in (data, run) for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(DetdistillError, match="--json" if which == "json" else "--out"):
        evaluate(run, DatasetSource(data, "val"), **{which: output})  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in before} == before


def test_scores_never_replace_the_detections_or_the_annotations(data: Path, tmp_path: Path) -> None:
    detections = tmp_path / "found.json"
    detections.write_text("[]")
    annotations = data / "annotations" / "instances_val.json"
    before = annotations.read_bytes()
    for output in (detections, annotations):
        with pytest.raises(DetdistillError, match="would replace the input"):
            evaluate_detections(detections, DatasetSource(data, "val"), json=output)
    assert detections.read_text() == "[]"
    assert annotations.read_bytes() == before


def test_a_wrong_canvas_is_the_arguments_fault(data: Path, tmp_path: Path) -> None:
    run = saved(tmp_path / "run", data)
    with pytest.raises(SettingsError, match=r"^ImageOptions: canvas"):
        evaluate(run, data, canvas=(60, 64))
