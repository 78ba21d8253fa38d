from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detdistill.cli import main
from detdistill.core.image_options import ImageSize
from detdistill.data.detections_folder import read_header
from detdistill.detectors.saving import save_detector
from support.pairs import confident
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    detector = confident(tiny_detector("gfl", ("green", "red")))
    save_detector(detector, folder, image_size=ImageSize(short_side=64, long_side=64))
    return folder


def test_pictures_numbers_and_table(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_boxes(tmp_path / "data") / "val"
    out, file = tmp_path / "out", tmp_path / "found.json"
    assert main(["predict", str(run), str(images), "--out", str(out), "--json", str(file), "--threshold", "0"]) == 0
    said = capsys.readouterr().out
    assert "detections in 4 images" in said
    entries = json.loads(file.read_text())
    assert f"{len(entries)} detections" in said
    assert {entry["image_id"] for entry in entries} <= {"0", "1", "2", "3"}
    assert {entry["category_id"] for entry in entries} <= {1, 2}
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png", "3.png"]
    before, after = (Image.open(folder / "0.png").convert("RGB") for folder in (images, out))
    assert after.size == (640, 640), "of 64, enlarged"
    assert (np.asarray(before.resize(after.size)) != np.asarray(after)).any(), "boxes are on it"


def test_a_broken_image_is_told_and_the_rest_goes_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_boxes(tmp_path / "data") / "val"
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:60])
    file = tmp_path / "found.json"
    words = ["predict", str(run), str(images), "--json", str(file), "--threshold", "0", "--batch-size", "2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "left out: " in said.err
    assert "1.png" in said.err
    assert "1 of 4 images could not be read" in said.err
    assert "detections in 3 images" in said.out
    by_image = {entry["image_id"] for entry in json.loads(file.read_text())}
    assert "1" not in by_image
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png", "3.png"]


def test_evaluate_scores_the_json_of_predict_as_it_scores_the_run(run: Path, tmp_path: Path) -> None:
    """Of a folder with images of one dataset, whose ids and class ids are its own."""
    data = write_boxes(tmp_path / "data")
    file = data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for part in ("images", "annotations"):
        for entry in content[part]:
            entry["id" if part == "images" else "image_id"] += 1000
    for entry in content["categories"]:  # in the other order of ids
        entry["id"] = 30 - entry["id"]
    for entry in content["annotations"]:
        entry["category_id"] = 30 - entry["category_id"]
    file.write_text(json.dumps(content))
    found = tmp_path / "found.json"
    assert main(["predict", str(run), str(data / "val"), "--json", str(found), "--threshold", "0"]) == 0
    scores = []
    for words in (["--detections", str(found)], [str(run)]):
        out = tmp_path / "scores.json"
        assert main(["evaluate", *words, "--data", str(data), "--split", "val", "--json", str(out)]) == 0
        scores.append({key: value for key, value in json.loads(out.read_text()).items() if key.startswith("A")})
    assert scores[0] == pytest.approx(scores[1])


def test_files_of_one_stem_get_different_ids(run: Path, tmp_path: Path) -> None:
    images = write_boxes(tmp_path / "data") / "val"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(images / "0.png", tmp_path / folder / "x.png")
    file = tmp_path / "found.json"
    words = ["predict", str(run), str(tmp_path / "a"), str(tmp_path / "b"), "--json", str(file), "--threshold", "0"]
    assert main(words) == 0
    entries = json.loads(file.read_text())
    assert len({(entry["image_id"], entry["file_name"]) for entry in entries}) == 2
    assert len({entry["image_id"] for entry in entries}) == 2


def test_class_agnostic_nms_leaves_one_class_a_place(run: Path, tmp_path: Path) -> None:
    images, file = write_boxes(tmp_path / "data") / "val", tmp_path / "found.json"
    found = []
    for words in ([], ["--class-agnostic-nms"]):
        assert main(["predict", str(run), str(images), "--json", str(file), "--threshold", "0", *words]) == 0
        found.append(json.loads(file.read_text()))
    assert 0 < len(found[1]) < len(found[0])


def test_files_of_the_same_name_do_not_overwrite_one_another(run: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (64, 64)).save(tmp_path / folder / "x.png")
    words = [str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]
    assert main(["predict", str(run), *words, "--image-format", "jpg"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.jpg", "x_2.jpg"]


def test_a_folder_that_cannot_be_created_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "x.png")
    assert main(["predict", str(run), str(tmp_path / "x.png"), "--out", str(tmp_path / "x.png" / "out")]) == 1
    assert f"--out {tmp_path / 'x.png' / 'out'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["nowhere.png"], "there is no such file"), (["x.png", "--threshold", "2"], "must lie between 0 and 1, not 2")],
)
def test_mistakes_are_told(run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), *words]) == 1
    assert message in capsys.readouterr().err


def test_a_teacher_predicts_a_dataset_once_for_distillation(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, store = write_boxes(tmp_path / "data"), tmp_path / "teacher_boxes"
    (data / "val" / "1.png").write_bytes(b"broken")
    words = ["predict", str(run), str(data), "--store", str(store), "--top-k", "1", "--floor", "0.1"]
    assert main([*words, "--workers", "1", "--batch-size", "4"]) == 1
    said = capsys.readouterr()
    assert "train: 8 images predicted" in said.out
    assert "val: 3 images predicted" in said.out
    assert "1.png" in said.err
    assert "1 of 12 images could not be read" in said.err
    header = read_header(store)
    assert header.floor == 0.1
    assert header.top_k == 1
    assert main([*words, "--split", "train"]) == 0
    assert "train: 0 images predicted, 8 stored before" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--store", "boxes", "--json", "x.json"],
        ["--store", "boxes", "--out", "x"],
        ["--store", "boxes", "--image-format", "png"],
        ["--store", "boxes", "--threshold", "0"],
        ["--store", "boxes", "--height", "32"],
        ["--store", "boxes", "--width", "32"],
        ["--store", "boxes", "--class-agnostic-nms"],
        ["--split", "train"],
        ["--top-k", "0"],
        ["--floor", "0"],
        ["--workers", "0"],
    ],
    ids=lambda words: words[-2] if len(words) % 2 == 0 else words[-1],
)
def test_options_that_do_not_go_together_are_refused_by_name(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tmp_path), str(tmp_path), *words]) == 1
    named = next(word for word in words if word.startswith("--") and word != "--store")
    said = capsys.readouterr().err
    assert named in said
    assert "--store" in said


def test_two_datasets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "one", "two", "--store", str(tmp_path / "boxes")]) == 1
    assert "one, two" in capsys.readouterr().err
