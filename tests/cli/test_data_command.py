from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from detdistill.cli import main
from detdistill.data.opening import find_splits, open_dataset
from support.small_datasets import write_voc


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A COCO folder with a train part of six images and a val part of one; one box of train has no area."""
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    for split, count in (("train", 6), ("val", 1)):
        images = []
        for number in range(count):
            name = f"{split}{number}.png"
            picture = Image.effect_noise((40, 30), 60).convert("RGB")
            picture.save(root / "images" / name)
            images.append({"id": number, "file_name": name, "width": 40, "height": 30})
        annotations = [
            {"id": 1, "image_id": 0, "category_id": 4, "bbox": [2, 3, 10, 12], "area": 120, "iscrowd": 0},
            {"id": 2, "image_id": 0, "category_id": 4, "bbox": [2, 3, 0, 12], "area": 0, "iscrowd": 0},
            *({"id": 3 + n, "image_id": 0, "category_id": 4, "bbox": [n, 3, 10, 12], "area": 120} for n in range(8)),
        ]
        content = {
            "images": images,
            "annotations": annotations[: 10 if split == "train" else 1],
            "categories": [{"id": 4, "name": "[bold]cat"}, {"id": 6, "name": "dog"}],
        }
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


def lines(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_inspect_reports_on_all_parts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("detdistill.core.progress.PATIENCE", 0.0)
    sheet = folder / "sheet.png"
    assert main(["data", "inspect", str(folder), "--sheet", str(sheet)]) == 0
    captured = capsys.readouterr()
    assert f"set train ({folder / 'train.json'})" in captured.out
    assert "6 images, 9 objects of 2 classes" in captured.out
    assert "5 images without" in captured.out
    assert "1 image, 1 object of 2 classes" in captured.out
    # A class may be called like rich's markup.
    assert ["[bold]cat", "4", "9", "1", "9", "0", "0"] in lines(captured.out)
    assert ["dog", "6", "0", "0", "0", "0", "0"] in lines(captured.out)
    assert ["8", "to", "16", "9", "█" * 40] in lines(captured.out)
    assert "  left out: " in captured.out
    assert "train.json: annotation 2" in captured.out
    assert "  noted: " in captured.out  # class dog has no object
    assert "no problems" in captured.out
    assert "decoding images: 6 of 6" in captured.err
    for part in ("train", "val"):
        with Image.open(folder / f"sheet_{part}.png") as picture:
            assert picture.width > 300
    assert not sheet.exists()


def test_inspect_names_the_sheet_by_what_the_images_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert main(["data", "inspect", ".", "--split", "val"]) == 0
    with Image.open("contact_sheet.png") as sheet:
        assert sheet.format == "PNG"
    assert main(["data", "inspect", ".", "--split", "val", "--sheet", "sheet.jpg"]) == 0
    with Image.open("sheet.jpg") as sheet:
        assert sheet.format == "JPEG"


def test_inspect_refuses_a_sheet_of_another_ending_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = folder / "sheet.gif"
    assert main(["data", "inspect", str(folder / "nothing"), "--sheet", str(sheet)]) == 1
    assert "sheet.gif" in capsys.readouterr().err
    assert not sheet.exists()


def test_inspect_one_part_writes_the_sheet_under_its_own_name(folder: Path) -> None:
    sheet = folder / "sheet.png"
    assert main(["data", "inspect", str(folder), "--split", "val", "--sheet", str(sheet)]) == 0
    assert sheet.exists()


def test_inspect_exits_1_with_what_must_be_fixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images" / "train2.png").unlink()
    (folder / "images" / "train3.png").write_bytes(b"nothing")
    content = json.loads((folder / "val.json").read_text())
    content["annotations"][0]["category_id"] = 5
    (folder / "val.json").write_text(json.dumps(content))
    assert main(["data", "inspect", str(folder), "--sheet", str(folder / "sheet.png")]) == 1
    captured = capsys.readouterr()
    fixed = [line for line in captured.out.splitlines() if "must be fixed" in line]
    assert len(fixed) == 3
    for name in ("train2.png", "train3.png", "val.json: annotation 1"):
        assert any(name in line for line in fixed)
    assert "3 of the problems above" in captured.err
    # The part that can be read is counted and drawn all the same.
    assert "6 images, 9 objects of 2 classes" in captured.out
    assert (folder / "sheet_train.png").exists()


def test_inspect_lists_missing_images_beside_faulty_annotations(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "images" / "val0.png").unlink()
    content = json.loads((folder / "val.json").read_text())
    content["annotations"][0]["category_id"] = 5
    (folder / "val.json").write_text(json.dumps(content))
    assert main(["data", "inspect", str(folder), "--split", "val", "--sheet", str(folder / "sheet.png")]) == 1
    fixed = [line for line in capsys.readouterr().out.splitlines() if "must be fixed" in line]
    assert ["val0.png" in line for line in fixed] == [True, False]
    assert "annotation 1" in fixed[1]


def inspected(folder: Path, *options: str) -> int:
    return main(["data", "inspect", str(folder), "--sheet", str(folder / "sheet.png"), *options])


def change_annotations(file: Path, count: int, **values: object) -> None:
    content = json.loads(file.read_text())
    for annotation in content["annotations"][:count]:
        annotation.update(values)
    file.write_text(json.dumps(content))


def test_inspect_exits_1_where_more_than_a_tenth_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_annotations(folder / "train.json", 1, bbox=None)
    assert inspected(folder, "--split", "train") == 1
    out = capsys.readouterr().out
    assert "2 of 10 annotations" in out
    assert "6 images, 8 objects" in out
    assert inspected(folder, "--split", "train", "--accept-left-out") == 0


def test_inspect_exits_1_without_objects_to_train_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_annotations(folder / "train.json", 10, iscrowd=1)
    assert inspected(folder, "--split", "train") == 1
    out = capsys.readouterr().out
    assert "must be fixed: " in out
    assert "ignores background inside crowd regions" in out


def test_inspect_compares_the_classes_of_training_and_validation(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((folder / "val.json").read_text())
    content["categories"][1]["name"] = "cow"
    (folder / "val.json").write_text(json.dumps(content))
    assert inspected(folder) == 1
    assert any("'cow'" in line for line in capsys.readouterr().out.splitlines() if "must be fixed" in line)
    assert inspected(folder, "--split", "val") == 0


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--short-side", "20", "--long-side", "20"], 0),
        (["--short-side", "2"], 1),
        (["--long-side", "3"], 1),
        (["--short-side", "2", "--accept-left-out"], 0),
    ],
)
def test_inspect_counts_objects_below_one_pixel(options: list[str], status: int, folder: Path) -> None:
    assert inspected(folder, "--split", "train", *options) == status


@pytest.mark.parametrize(
    ("recipe", "status"),
    [
        ("batch_size: 2\nimages: {short_side: 20, long_side: 30}\n", 0),
        ("batch_size: 2\nimages: {letterbox: 2}\n", 1),
        ("batch_size: 2\nimages: {letterbox: 2}\ndata: {path: x, accept_left_out: true}\n", 0),
    ],
)
def test_inspect_checks_for_a_recipe(recipe: str, status: int, folder: Path) -> None:
    (folder / "recipe.yaml").write_text(recipe)
    assert inspected(folder, "--annotations", "train.json", "--recipe", str(folder / "recipe.yaml")) == status


def test_inspect_offers_to_rescale(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        Image.new("RGB", (80, 90)).save(folder / "images" / f"train{number}.png")
    assert inspected(folder, "--split", "train") == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "must be fixed" in line)
    assert line.strip().startswith("must be fixed: 6 images: ")
    assert "--rescale" in line
    assert inspected(folder, "--split", "train", "--rescale") == 0
    assert "changed: 6 images: " in capsys.readouterr().out


def test_inspect_and_training_judge_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An XML file without an image is left out, where no list asks for it, and need not be fixed."""
    write_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
    (tmp_path / "JPEGImages" / "two.jpg").unlink()
    assert main(["data", "inspect", str(tmp_path), "--sheet", str(tmp_path / "sheet.png")]) == 0
    out = capsys.readouterr().out
    assert "2 images, 4 objects" in out
    assert "its annotations are left out" in out


def test_inspect_takes_explicit_paths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images").rename(folder / "pictures")
    (folder / "train.json").rename(folder / "odd.json")
    arguments = ["--annotations", str(folder / "odd.json"), "--images", str(folder / "pictures")]
    assert main(["data", "inspect", str(folder), *arguments, "--sheet", str(folder / "sheet.png")]) == 0
    assert "6 images" in capsys.readouterr().out


def test_inspect_names_a_sheet_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = folder / "missing" / "sheet.png"
    assert main(["data", "inspect", str(folder), "--split", "val", "--sheet", str(sheet)]) == 1
    assert f"{sheet} cannot be written" in capsys.readouterr().err


def test_inspect_lists_near_duplicates_of_other_images(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    images = folder / "images"
    (shots / "copy.png").write_bytes((images / "train1.png").read_bytes())
    (shots / "broken.png").write_bytes(b"nothing")
    (images / "train2.png").write_bytes((images / "val0.png").read_bytes())
    assert inspected(folder, "--against", str(shots), "--against", "val") == 0
    out = capsys.readouterr().out
    train, val = out.split("set val")
    for text in ("train1.png: copy.png", "train2.png: val0.png", "val (1 image): 1 of 6 images"):
        assert text in train
    for text in ("undecodable, not compared: 1 image", f"{shots} (2 images): 0 of 1 image", "not counted: 1 image"):
        assert text in val


def test_inspect_lists_ten_near_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    for number in range(12):
        picture = Image.effect_noise((40, 30), 60).convert("RGB")
        picture.save(tmp_path / "one" / f"{number:02}.png")
        picture.save(tmp_path / "other" / f"{number:02}.bmp")
    (tmp_path / "one" / "broken.png").write_bytes(b"nothing")
    assert main(["data", "inspect", str(tmp_path / "one"), "--against", str(tmp_path / "other")]) == 0
    out = capsys.readouterr().out
    assert "12 of 13 images" in out
    assert [f"{number:02}.png: {number:02}.bmp" in out for number in range(12)] == [True] * 10 + [False] * 2
    assert "2 more" in out
    assert f"1 image of {tmp_path / 'one'}" in out
    assert main(["data", "inspect", str(tmp_path / "one")]) == 1


@pytest.mark.parametrize("other", ["nothing", "broken.json", "empty"])
def test_inspect_refuses_others_that_are_none(
    folder: Path, other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    Path("broken.json").write_text('{"images": [')
    Path("empty").mkdir()
    assert inspected(folder / "train.json", "--against", other) == 1
    captured = capsys.readouterr()
    assert other in captured.err
    assert not captured.out


def test_split_writes_beside_the_data_and_says_what_it_did(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "split", str(folder), "--split", "train", "--val", "0.34"]) == 0
    out = capsys.readouterr().out
    written = folder.with_name("set_split")
    assert f"{written / 'train.json'}: 4 images (66.7 %)" in out
    assert f"{written / 'val.json'}: 2 images (33.3 %)" in out
    assert "warning: val has no object of '[bold]cat'" in out
    assert "annotation 2" in out
    assert inspected(written, "--split", "train") == 0


def test_split_in_three_parts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.with_name("three")
    arguments = ["--split", "train", "--val", "0.17", "--test", "0.34", "--out", str(out)]
    assert main(["data", "split", str(folder), *arguments]) == 0
    assert f"{out / 'test.json'}: 2 images (33.3 %)" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["images", "test.json", "train.json", "val.json"]
    assert {split.name: len(open_dataset(out, split.name).images) for split in find_splits(out)} == {
        "train": 3,
        "val": 1,
        "test": 2,
    }


def test_split_overwrites_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "val.json").read_bytes()
    assert main(["data", "split", str(folder), "--split", "train", "--out", str(folder)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert (folder / "val.json").read_bytes() == before


def test_split_names_near_duplicates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images" / "train4.png").write_bytes((folder / "images" / "train1.png").read_bytes())
    assert main(["data", "split", str(folder), "--split", "train", "--val", "0.5"]) == 0
    assert "near-duplicates, kept together: train1.png, train4.png" in capsys.readouterr().out


def test_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scenes"
    arguments = ["--train", "3", "--val", "2", "--test", "1", "--size", "96"]
    assert main(["data", "scenes", str(out), *arguments]) == 0
    assert "3 training, 2 validation and 1 test pictures" in capsys.readouterr().out
    assert len(list((out / "images").iterdir())) == 6
    assert main(["data", "inspect", str(out), "--sheet", str(tmp_path / "sheet.png")]) == 0


@pytest.mark.slow
def test_every_set_of_photographs_is_inspected(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bccd", "bccd_voc", "coco256", "facemask", "voc_sample"):
        assert main(["data", "inspect", str(photographs / name), "--sheet", str(tmp_path / f"{name}.png")]) == 0
        assert "contact sheet" in capsys.readouterr().out
