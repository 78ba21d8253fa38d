"""Folders as labelling tools and tutorials write them, read without options."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.data import find_splits, open_dataset
from support.small_datasets import (
    OBJECTS,
    SIZES,
    coco_content,
    csv_text,
    voc_xml,
    write_coco,
    write_cvat,
    write_images,
    write_label_studio,
    write_yolo,
    yolo_lines,
)

CLASSES = "cat\ndog\n"


def write_xml(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in SIZES:
        (folder / f"{stem}.xml").write_text(voc_xml(stem))


def write_labels(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in SIZES:
        (folder / f"{stem}.txt").write_text(yolo_lines(stem))


def check(dataset: DetectionDataset, images: int = len(SIZES)) -> None:
    """All objects are there, at the right places."""
    assert len(dataset.images) == images
    assert dataset.classes == ("cat", "dog")
    assert all(image.path.exists() for image in dataset.images)
    by_stem = {image.path.stem: image for image in dataset.images}
    for stem in by_stem:
        expected = [(name, box) for owner, name, box in OBJECTS if owner == stem]
        assert [dataset.classes[label] for label in by_stem[stem].labels] == [name for name, _ in expected]
        boxes = np.array([box for _, box in expected]).reshape(-1, 4)
        np.testing.assert_allclose(by_stem[stem].boxes, boxes, atol=1e-6)


def xml_beside_images(root: Path) -> dict[str, int]:
    write_images(root)
    write_xml(root)
    return {"all": 3}


def xml_beside_images_in_split_folders(root: Path) -> dict[str, int]:
    for part in ("train", "valid", "test"):
        write_images(root / part)
        write_xml(root / part)
    return {"train": 3, "valid": 3, "test": 3}


def annotations_and_images_in_other_case(root: Path) -> dict[str, int]:
    write_images(root / "Images")
    write_xml(root / "annotations")
    return {"all": 3}


def annotations_and_images_by_split(root: Path) -> dict[str, int]:
    for part in ("train", "val"):
        write_images(root / "images" / part)
        write_xml(root / "Annotations" / part)
    return {"train": 3, "val": 3}


def split_folders_with_annotations_and_images(root: Path) -> dict[str, int]:
    for part in ("train", "test"):
        write_images(root / part / "images")
        write_xml(root / part / "annotations")
    return {"train": 3, "test": 3}


def voc_in_lower_case(root: Path) -> dict[str, int]:
    write_images(root / "jpegimages")
    write_xml(root / "annotations")
    (root / "imagesets" / "main").mkdir(parents=True)
    (root / "imagesets" / "main" / "train.txt").write_text("one.png\nthree\n")
    return {"train": 2}


def coco_in_other_case(root: Path) -> dict[str, int]:
    write_images(root / "Images")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "instances_default.json").write_text(json.dumps(coco_content()))
    return {"default": 3}


def coco_by_split(root: Path) -> dict[str, int]:
    for part in ("train", "val"):
        write_images(root / part / "images")
        (root / part / "labels.json").write_text(json.dumps(coco_content()))
    return {"train": 3, "val": 3}


def label_studio(root: Path) -> dict[str, int]:
    write_label_studio(root)
    return {"all": 3}


def yolo_in_other_case(root: Path) -> dict[str, int]:
    write_images(root / "Images" / "Train")
    write_labels(root / "Labels" / "Train")
    (root / "Labels" / "classes.txt").write_text(f"\ufeff{CLASSES}\n")
    return {"Train": 3}


def yolo_split_folders(root: Path) -> dict[str, int]:
    for part in ("train", "valid"):
        write_images(root / part / "images")
        write_labels(root / part / "labels")
    (root / "classes.txt").write_text(CLASSES)
    return {"train": 3, "valid": 3}


def yolo_in_one_folder(root: Path) -> dict[str, int]:
    """As LabelImg writes it."""
    write_images(root)
    write_labels(root)
    (root / "classes.txt").write_text(CLASSES)
    return {"all": 3}


def darknet_by_roboflow(root: Path) -> dict[str, int]:
    write_images(root / "train")
    write_labels(root / "train")
    (root / "train" / "_darknet.labels").write_text(CLASSES)
    return {"train": 3}


def yolo_by_camera(root: Path) -> dict[str, int]:
    """Subfolders that are no splits are one set."""
    for camera in ("left", "right"):
        write_images(root / "images" / camera)
        write_labels(root / "labels" / camera)
    (root / "classes.txt").write_text(CLASSES)
    return {"all": 6}


def lists_without_yaml(root: Path) -> dict[str, int]:
    label_studio(root)
    (root / "train.txt").write_text("images/one.png\nthree\n")
    (root / "val.txt").write_text("/content/project/images/two.png\n")
    return {"train": 2, "val": 1}


def yaml_that_names_classes_only(root: Path) -> dict[str, int]:
    write_images(root / "images")
    write_labels(root / "labels")
    (root / "data.yaml").write_text("nc: 2\nnames: [cat, dog]\n")
    return {"all": 3}


def cvat(root: Path) -> dict[str, int]:
    write_cvat(root)
    return {"train": 3}


def roboflow_with_the_projects_folder(root: Path) -> dict[str, int]:
    for part in ("train", "valid"):
        write_images(root / part / "images")
        write_labels(root / part / "labels")
    (root / "data.yaml").write_text(
        "train: Pets-1/train/images\nval: /content/Pets-1/valid/images\nnames: [cat, dog]\n"
    )
    return {"train": 3, "val": 3}


def labels_beside_images_in_a_folder_called_images(root: Path) -> dict[str, int]:
    write_images(root / "images" / "train")
    write_labels(root / "images" / "train")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    return {"train": 3}


def tensorflow(root: Path) -> dict[str, int]:
    for part in ("train", "test"):
        write_images(root / "images" / part)
        (root / "images" / f"{part}_labels.csv").write_text(csv_text())
    return {"test": 2, "train": 2}


def csv_in_data(root: Path) -> dict[str, int]:
    write_images(root / "images")
    (root / "data").mkdir()
    (root / "data" / "train_labels.csv").write_text("\ufeff" + csv_text())
    return {"train": 2}


def roboflows_csv(root: Path) -> dict[str, int]:
    write_images(root / "train")
    (root / "train" / "_annotations.csv").write_text(csv_text())
    return {"train": 2}


LAYOUTS: list[Callable[[Path], dict[str, int]]] = [
    xml_beside_images,
    xml_beside_images_in_split_folders,
    annotations_and_images_in_other_case,
    annotations_and_images_by_split,
    split_folders_with_annotations_and_images,
    voc_in_lower_case,
    coco_in_other_case,
    coco_by_split,
    label_studio,
    yolo_in_other_case,
    yolo_split_folders,
    yolo_in_one_folder,
    darknet_by_roboflow,
    yolo_by_camera,
    lists_without_yaml,
    yaml_that_names_classes_only,
    cvat,
    roboflow_with_the_projects_folder,
    labels_beside_images_in_a_folder_called_images,
    tensorflow,
    csv_in_data,
    roboflows_csv,
]


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_a_usual_layout_is_read_without_options(write: Callable[[Path], dict[str, int]], tmp_path: Path) -> None:
    images = write(tmp_path)
    splits = find_splits(tmp_path)
    assert {split.name for split in splits} == set(images)
    for split in splits:
        check(open_dataset(tmp_path, split.name), images[split.name])


@pytest.mark.parametrize("write", [*LAYOUTS[:4], *LAYOUTS[6:13], *LAYOUTS[16:]], ids=lambda write: write.__name__)
def test_every_split_can_be_named_by_its_annotations(write: Callable[[Path], dict[str, int]], tmp_path: Path) -> None:
    images = write(tmp_path)
    for split in find_splits(tmp_path):
        check(open_dataset(tmp_path, split.name, annotations=split.annotations), images[split.name])


def test_a_list_can_be_named(tmp_path: Path) -> None:
    cvat(tmp_path)
    (tmp_path / "some.txt").write_text("obj_train_data/one\n")
    check(open_dataset(tmp_path, annotations="some.txt"), 1)
    check(open_dataset(tmp_path / "some.txt"), 1)


def test_hidden_files_and_those_of_other_programs_are_no_annotations(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_images(tmp_path / "xml")
    for name in (
        "._train.json",
        ".ipynb_checkpoints/val.json",
        "__MACOSX/train.json",
        "._data.yaml",
        ".hidden/one.xml",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(coco_content()))
    assert [split.annotations.name for split in find_splits(tmp_path)] == ["train.json"]


def test_hidden_images_are_skipped_and_counted(tmp_path: Path) -> None:
    xml_beside_images(tmp_path)
    for name in ("._one.png", "._one.xml"):
        (tmp_path / name).write_bytes(b"\0")
    dataset = open_dataset(tmp_path)
    check(dataset)
    (problem,) = dataset.problems
    assert "._one.png` and 1 more" in problem.what
    assert not problem.fatal


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.json", '{"categories": [{"id": 1, "name": "cat"}], "images": "photos"}'),
        ("val_metrics.json", '{"AP": 0.5, "images": 200, "annotations": 3}'),
        ("train_log.json", '{"images": []}'),
        ("val_results.json", '[{"images": [], "annotations": [], "categories": []}]'),
        ("test.json", "{"),
    ],
)
def test_json_without_the_three_lists_is_no_split(name: str, text: str, tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / name).write_text(text)
    assert [split.name for split in find_splits(tmp_path)] == ["train"]
    (tmp_path / "train.json").unlink()
    with pytest.raises(DataError, match="Not read") as caught:
        open_dataset(tmp_path)
    assert name in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_with_a_byte_order_mark_is_read(encoding: str, tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(coco_content()), encoding=encoding)
    check(open_dataset(tmp_path))


def test_a_damaged_candidate_is_named_where_its_split_is_missing(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "val.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"no split 'val'.*(?s:.)*val\.json: is not COCO"):
        open_dataset(tmp_path, "val")


def test_two_formats_of_one_split_are_named_with_the_options(tmp_path: Path) -> None:
    roboflow_with_the_projects_folder(tmp_path)
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(coco_content()))
    with pytest.raises(DataError, match=r"(?s)--split.*--annotations.*COCO.*YOLO"):
        open_dataset(tmp_path, "train")
    check(open_dataset(tmp_path, "val"))
    check(open_dataset(tmp_path, "train", annotations="data.yaml"))
    check(open_dataset(tmp_path, annotations="train/_annotations.coco.json", images="train/images"))


def test_a_yaml_without_images_does_not_hide_other_formats(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    check(open_dataset(tmp_path))


def test_a_table_made_from_xml_files_is_noted(tmp_path: Path) -> None:
    tensorflow(tmp_path)
    write_xml(tmp_path / "images" / "train")
    dataset = open_dataset(tmp_path, "train")
    check(dataset)
    assert [Path(problem.where).name for problem in dataset.problems] == ["train_labels.csv"]
    check(open_dataset(tmp_path, annotations="images/train_labels.csv"), 2)


def test_labels_without_class_names_are_named(tmp_path: Path) -> None:
    label_studio(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"labels: YOLO labels without class names"):
        open_dataset(tmp_path)


def test_class_files_that_differ_are_fatal(tmp_path: Path) -> None:
    label_studio(tmp_path)
    (tmp_path / "labels" / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(DataError, match="different classes"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("text", ["cat\n\ndog\n", "cat\ncat\n", ""])
def test_faulty_class_files_are_fatal(text: str, tmp_path: Path) -> None:
    label_studio(tmp_path)
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=r"classes\.txt"):
        open_dataset(tmp_path)


def test_captions_beside_images_are_no_labels(tmp_path: Path) -> None:
    write_images(tmp_path)
    for stem in SIZES:
        (tmp_path / f"{stem}.txt").write_text("a photograph of 2 dogs")
    (tmp_path / "classes.txt").write_text(CLASSES)
    with pytest.raises(DataError, match="no annotated dataset"):
        open_dataset(tmp_path)


def test_labels_and_images_given_by_hand(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    write_labels(tmp_path / "boxes")
    (tmp_path / "classes.txt").write_text(CLASSES)
    check(open_dataset(tmp_path, annotations="boxes", images="photos"))
    with pytest.raises(DataError, match="--images"):
        open_dataset(tmp_path, annotations="boxes")


def test_two_label_files_of_an_image_are_fatal(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    write_labels(tmp_path / "images" / "train")
    with pytest.raises(DataError, match="two label files"):
        open_dataset(tmp_path)


def test_a_data_file_never_means_another_split(tmp_path: Path) -> None:
    """`/content/x/valid/images` is not the folder `images` that the training images are in."""
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text("train: /content/x/images\nval: /content/x/valid/images\nnames: [cat, dog]\n")
    check(open_dataset(tmp_path, "train"))
    with pytest.raises(DataError, match="'val' names '/content/x/valid/images'"):
        open_dataset(tmp_path, "val")


def test_a_data_file_that_can_mean_two_folders_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "inner"
    for folder in (tmp_path, root):
        write_images(folder / "train" / "images")
    write_labels(root / "train" / "labels")
    (root / "data.yaml").write_text("train: ../train/images\nnames: [cat, dog]\n")
    with pytest.raises(DataError, match="can mean"):
        open_dataset(root)
    shutil.rmtree(tmp_path / "train")
    check(open_dataset(root))


@pytest.mark.parametrize("write", [xml_beside_images, label_studio, yolo_in_one_folder])
def test_two_images_of_one_stem_are_fatal(write: Callable[[Path], dict[str, int]], tmp_path: Path) -> None:
    write(tmp_path)
    folder = tmp_path / "images" if write is label_studio else tmp_path
    write_images(folder, ".jpg")
    with pytest.raises(DataError, match="one") as caught:
        open_dataset(tmp_path)
    assert len([problem for problem in caught.value.problems if "images" in problem.what]) == len(SIZES)


def test_a_list_with_endings_decides_between_images_of_one_stem(tmp_path: Path) -> None:
    voc_in_lower_case(tmp_path)
    write_images(tmp_path / "jpegimages", ".jpg")
    (tmp_path / "imagesets" / "main" / "train.txt").write_text("one.png\nthree.jpg\n")
    assert [image.file_name for image in open_dataset(tmp_path).images] == ["one.png", "three.jpg"]


@pytest.mark.parametrize("ending", [".jfif", ".JPE", ".dib", ".pbm", ".TIF"])
def test_images_of_all_endings_are_found(ending: str, tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    for stem in SIZES:
        (tmp_path / "images" / f"{stem}.png").rename(tmp_path / "images" / f"{stem}{ending}")
    write_labels(tmp_path / "labels")
    (tmp_path / "classes.txt").write_text(CLASSES)
    check(open_dataset(tmp_path))


def test_images_of_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    label_studio(tmp_path)
    (tmp_path / "images" / "four.HEIC").touch()
    dataset = open_dataset(tmp_path)
    check(dataset)
    assert "four.HEIC" in dataset.problems[0].what


def test_a_byte_order_mark_loses_no_object(tmp_path: Path) -> None:
    label_studio(tmp_path)
    for file in (tmp_path / "labels").iterdir():
        file.write_text(file.read_text(), encoding="utf-8-sig" if file.stem == "one" else "utf-16")
    dataset = open_dataset(tmp_path)
    check(dataset)
    assert dataset.problems == ()


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-8-sig"])
def test_lists_in_another_encoding_are_read_where_the_images_decide(encoding: str, tmp_path: Path) -> None:
    cvat(tmp_path)
    for ending in (".png", ".txt"):
        (tmp_path / "obj_train_data" / f"one{ending}").rename(tmp_path / "obj_train_data" / f"图像一{ending}")
    (tmp_path / "train.txt").write_text("data/obj_train_data/图像一.png\n", encoding=encoding)
    dataset = open_dataset(tmp_path)
    assert [len(image.labels) for image in dataset.images] == [2]


def test_a_voc_list_in_another_encoding_is_read_where_the_images_decide(tmp_path: Path) -> None:
    voc_in_lower_case(tmp_path)
    (tmp_path / "jpegimages" / "one.png").rename(tmp_path / "jpegimages" / "图像一.png")
    (tmp_path / "annotations" / "one.xml").rename(tmp_path / "annotations" / "图像一.xml")
    (tmp_path / "imagesets" / "main" / "train.txt").write_text("图像一\nthree\n", encoding="gbk")
    assert [image.image_id for image in open_dataset(tmp_path).images] == ["图像一", "three"]


@pytest.mark.parametrize("name", ["classes.txt", "data.yaml"])
def test_class_names_in_another_encoding_are_an_error(name: str, tmp_path: Path) -> None:
    label_studio(tmp_path)
    (tmp_path / "classes.txt").unlink()
    text = "猫\n狗\n" if name == "classes.txt" else "names: [猫, 狗]\n"
    (tmp_path / name).write_text(text, encoding="gbk")
    with pytest.raises(DataError, match=rf"{name}.* UTF-8"):
        open_dataset(tmp_path)
