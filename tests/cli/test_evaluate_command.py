from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detdistill.cli import main
from support.reference_scores import TWELVE, assert_equal_scores, pycocotools_scores

TRUTH = {
    "images": [{"id": 5, "file_name": "a.jpg", "width": 100, "height": 100}],
    "categories": [{"id": 3, "name": "[cat]"}, {"id": 9, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}],
}
FOUND = [
    {"image_id": 5, "category_id": 3, "bbox": [60, 60, 20, 20], "score": 0.9},
    {"image_id": 5, "category_id": 3, "bbox": [10, 10, 20, 12], "score": 0.8},
]


def write(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def evaluate(folder: Path, truth: object, found: object, *words: str) -> dict[str, Any]:
    """Runs the command on files without any image; returns the JSON that it wrote."""
    data, detections = write(folder / "val.json", truth), write(folder / "results.json", found)
    assert main(["evaluate", "--data", data, "--detections", detections, "--json", f"{folder}/out.json", *words]) == 0
    numbers: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return numbers


def test_the_coco_authors_example_through_the_reader(photographs: Path, tmp_path: Path) -> None:
    folder = photographs / "coco_eval"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    found = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    numbers = evaluate(tmp_path, truth, found)
    assert [*numbers] == [*TWELVE, "per_class"]
    assert_equal_scores(numbers, pycocotools_scores(truth, found))


def test_coco_numbers_worked_by_hand(tmp_path: Path) -> None:
    """One object, found second, with an overlap of 240 / 400: precision 1/2 at IoU .5, .55 and .6."""
    numbers = evaluate(tmp_path, TRUTH, FOUND)
    assert numbers["AP50"] == pytest.approx(0.5, abs=1e-12)
    assert numbers["AP"] == pytest.approx(0.5 * 3 / 10, abs=1e-12)
    assert numbers["AR1"] == 0
    assert numbers["AR10"] == pytest.approx(3 / 10, abs=1e-12)
    assert numbers["APl"] is None
    assert numbers["per_class"]["dog"] == dict.fromkeys(TWELVE)
    assert numbers["per_class"]["[cat]"] == {name: numbers[name] for name in TWELVE}


@pytest.mark.parametrize("protocol", ["voc07", "voc10"])
def test_voc_numbers_come_under_cocos_names(protocol: str, tmp_path: Path) -> None:
    numbers = evaluate(tmp_path, TRUTH, FOUND, "--protocol", protocol)
    undefined = dict.fromkeys(TWELVE)
    assert numbers["per_class"] == {"[cat]": undefined | {"AP50": pytest.approx(0.5, abs=1e-12)}, "dog": undefined}
    assert {name: numbers[name] for name in TWELVE} == numbers["per_class"]["[cat]"]


def test_the_two_voc_protocols_differ(tmp_path: Path) -> None:
    """Two objects, one found: eleven points give 6 / 11, the area under the curve is 1 / 2."""
    truth = TRUTH | {
        "annotations": [
            {"id": number, "image_id": 5, "category_id": 3, "bbox": [10, start, 20, 20], "area": 400, "iscrowd": 0}
            for number, start in enumerate((10, 60), start=1)
        ]
    }
    found = [{"image_id": 5, "category_id": 3, "bbox": [10, 10, 20, 20], "score": 0.9}]
    assert evaluate(tmp_path, truth, found, "--protocol", "voc07")["AP50"] == pytest.approx(6 / 11, abs=1e-12)
    assert evaluate(tmp_path, truth, found, "--protocol", "voc10")["AP50"] == pytest.approx(1 / 2, abs=1e-12)


def test_people_read_plain_columns_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(tmp_path, TRUTH, FOUND)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:5] == ["2", "detections", "in", "1", "images"]
    assert lines[1:] == [
        ["class", "AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"],
        ["[cat]", "15.0", "50.0", "0.0", "15.0", "–", "–", "30.0"],
        ["dog", *["–"] * 7],
        ["mean", "15.0", "50.0", "0.0", "15.0", "–", "–", "30.0"],
        [],
        ["recall", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"],
        ["mean", "0.0", "30.0", "30.0", "30.0", "–", "–"],
    ]


@pytest.mark.parametrize(("kept", "status"), [(9, 0), (8, 1)])
def test_annotations_left_out_of_the_ground_truth_are_noted_up_to_a_tenth(
    kept: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [TRUTH["annotations"][0] | {"id": number} for number in range(kept + 1)]
    entries[-1]["image_id"] = 6
    data, detections = write(tmp_path / "val.json", TRUTH | {"annotations": entries}), write(tmp_path / "r.json", FOUND)
    assert main(["evaluate", "--data", data, "--detections", detections]) == status
    message = capsys.readouterr().err
    assert f"annotation {kept}: image_id 6" in message
    assert ("1 annotation left out" if status == 0 else f"1 of {kept + 1} annotations") in message


def test_an_error_leaves_the_last_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = evaluate(tmp_path, TRUTH, FOUND)
    bad = write(tmp_path / "bad.json", [FOUND[0] | {"image_id": 77}])
    out = str(tmp_path / "out.json")
    assert main(["evaluate", "--data", str(tmp_path / "val.json"), "--detections", bad, "--json", out]) == 1
    assert json.loads((tmp_path / "out.json").read_text()) == before
    assert "image 77 is not among the 1 of the dataset (such as 5)" in capsys.readouterr().err


def test_voc_images_go_by_the_stem_of_their_file(tmp_path: Path) -> None:
    """The box covers pixels 11 to 30, counted from 1 with both ends: 10 to 30 as edges."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("000012\n")
    (root / "Annotations/000012.xml").write_text(
        "<annotation><filename>000012.jpg</filename><size><width>100</width><height>100</height><depth>3</depth></size>"
        "<object><name>car</name><difficult>0</difficult>"
        "<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>30</ymax></bndbox></object></annotation>"
    )
    found = write(
        tmp_path / "results.json", [{"image_id": "000012", "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.5}]
    )
    words = ["--data", str(tmp_path), "--detections", found, "--protocol", "voc07", "--json", f"{tmp_path}/out.json"]
    assert main(["evaluate", *words]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["AP50"] == 1
