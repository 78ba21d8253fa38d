"""PASCAL VOC folders, sound and faulty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detdistill.core.errors import DataError, LeftOutError
from detdistill.data import find_splits, open_dataset
from support.small_datasets import BOMB, OBJECTS, SIZES, voc_xml, write_voc


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_voc(tmp_path)


def change(folder: Path, stem: str, old: str, new: str) -> None:
    xml = folder / "Annotations" / f"{stem}.xml"
    text = xml.read_text()
    assert old in text
    xml.write_text(text.replace(old, new, 1))


def test_everything_is_read(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (1, 2))
    assert [image.image_id for image in dataset.images] == ["one", "two", "three"]
    assert [image.file_name for image in dataset.images] == ["one.jpg", "two.jpg", "three.jpg"]
    assert [(image.height, image.width) for image in dataset.images] == list(SIZES.values())
    boxes = [box for image in dataset.images for box in image.boxes.tolist()]
    assert boxes == [list(box) for _, _, box in OBJECTS]
    assert [image.labels.tolist() for image in dataset.images] == [[1, 0], [], [1, 1]]
    assert [image.difficult.tolist() for image in dataset.images] == [[False, False], [], [False, True]]
    assert dataset.problems == ()


def test_files_that_count_from_0_keep_their_0(folder: Path) -> None:
    change(folder, "one", "<xmin>11</xmin><ymin>6</ymin>", "<xmin>0</xmin><ymin>0</ymin>")
    dataset = open_dataset(folder)
    assert dataset.images[0].boxes[0].tolist() == [0, 0, 30, 25]
    assert dataset.problems == ()


@pytest.mark.parametrize("size", ["<size><width>0</width><height>0</height></size>", "<size/>", ""])
def test_a_size_of_0_is_the_images_own(size: str, folder: Path) -> None:
    change(folder, "one", "<size><width>60</width><height>40</height></size>", size)
    dataset = open_dataset(folder)
    assert (dataset.images[0].height, dataset.images[0].width) == (40, 60)
    assert len(dataset.images[0].boxes) == 2
    assert len(dataset.problems) == (size != "")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("<xmin>11</xmin>", "<xmin>nan</xmin>", "finite"),
        ("<xmin>11</xmin>", "<xmin/>", "finite"),
        ("<xmin>11</xmin>", "", "finite"),
        ("<xmin>11</xmin>", "<xmin>1,1,1</xmin>", "finite"),
        ("<xmax>30</xmax>", "<xmax>10</xmax>", "no area"),
        ("<xmin>11</xmin><ymin>6</ymin><xmax>30</xmax>", "<xmin>61</xmin><ymin>6</ymin><xmax>90</xmax>", "outside"),
        ("<name>dog</name>", "<name> </name>", "no name"),
        ("<name>dog</name>", "", "no name"),
    ],
)
def test_an_unusable_object_is_left_out_and_reported(old: str, new: str, word: str, folder: Path) -> None:
    change(folder, "one", old, new)
    with pytest.raises(LeftOutError):
        open_dataset(folder)
    dataset = open_dataset(folder, accept_left_out=True)
    assert [len(image.labels) for image in dataset.images] == [1, 0, 2]
    (problem,) = dataset.problems
    assert problem.where.endswith("one.xml: object 1")
    assert word in problem.what
    assert (problem.outcome, problem.unit) == ("left out", "annotation")


@pytest.mark.parametrize(
    ("text", "flag"),
    [("Unspecified", False), ("maybe", False), ("2", True), ("-1", False), ("0.5", True)],
)
def test_an_object_of_unknown_difficulty_is_kept_and_reported(text: str, flag: bool, folder: Path) -> None:
    change(folder, "one", "<difficult>0</difficult>", f"<difficult>{text}</difficult>")
    dataset = open_dataset(folder)
    assert dataset.images[0].difficult.tolist() == [flag, False]
    assert [(problem.outcome, problem.unit) for problem in dataset.problems] == [("changed", "annotation")]


@pytest.mark.parametrize(("text", "flag"), [("true", True), (" 1 ", True), ("", False), ("False", False)])
def test_flags_in_words_are_no_problem(text: str, flag: bool, folder: Path) -> None:
    change(folder, "one", "<difficult>0</difficult>", f"<difficult>{text}</difficult>")
    dataset = open_dataset(folder)
    assert dataset.images[0].difficult.tolist() == [flag, False]
    assert dataset.problems == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<xmin>11</xmin><ymin>6</ymin><xmax>30</xmax>", "<xmin>30</xmin><ymin>6</ymin><xmax>11</xmax>"),
        ("<ymin>6</ymin><xmax>30</xmax><ymax>25</ymax>", "<ymin>25</ymin><xmax>30</xmax><ymax>6</ymax>"),
        ("<xmin>11</xmin>", "<xmin>11,0</xmin>"),
    ],
)
def test_swapped_corners_and_decimal_commas_are_read_and_reported(old: str, new: str, folder: Path) -> None:
    change(folder, "one", old, new)
    dataset = open_dataset(folder)
    assert dataset.images[0].boxes[0].tolist() == list(OBJECTS[0][2])
    assert [(problem.outcome, problem.unit) for problem in dataset.problems] == [("changed", "annotation")]


def test_annotations_whose_image_is_missing_count_as_left_out(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").unlink()
    (folder / "JPEGImages" / "one.jpg").unlink()
    with pytest.raises(LeftOutError) as caught:
        open_dataset(folder)
    assert (caught.value.left_out, caught.value.annotated) == (2, 4)


def test_a_box_that_reaches_out_is_clipped_and_reported(folder: Path) -> None:
    change(folder, "one", "<xmin>11</xmin><ymin>6</ymin><xmax>30", "<xmin>-4</xmin><ymin>6</ymin><xmax>61")
    dataset = open_dataset(folder)
    assert dataset.images[0].boxes[0].tolist() == [0, 5, 60, 25]
    assert [problem.what.rpartition("; ")[2] for problem in dataset.problems] == ["clipped"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (BOMB + "<annotation>&c;</annotation>", "bomb"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>', "bomb"),
        ("<annotation>", "not valid XML"),
        ("", "not valid XML"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "not valid XML"),
    ],
)
def test_unreadable_xml_is_refused(text: str, word: str, folder: Path) -> None:
    (folder / "Annotations" / "one.xml").write_text(text)
    (folder / "Annotations" / "three.xml").write_text(text)
    with pytest.raises(DataError, match="2 problems") as caught:
        open_dataset(folder)
    assert [Path(problem.where).name for problem in caught.value.problems] == ["one.xml", "three.xml"]
    assert all(word in problem.what for problem in caught.value.problems)


def test_deeply_nested_xml_is_read(folder: Path) -> None:
    change(folder, "two", "</annotation>", "<a>" * 50_000 + "</a>" * 50_000 + "</annotation>")
    assert len(open_dataset(folder).images) == len(SIZES)


def test_a_listed_image_that_is_missing_is_fatal(folder: Path) -> None:
    (folder / "JPEGImages" / "two.jpg").unlink()
    with pytest.raises(DataError, match=r"train\.txt: 'two': image 'two\.jpg' is not there"):
        open_dataset(folder)
    assert len(open_dataset(folder, check_images=False).images) == len(SIZES)


def test_an_image_without_annotations_is_left_out_and_reported(folder: Path) -> None:
    (folder / "Annotations" / "one.xml").unlink()
    dataset = open_dataset(folder)
    assert [image.image_id for image in dataset.images] == ["two", "three"]
    assert "'one.xml' is not there" in dataset.problems[0].what


def test_annotations_without_an_image_are_reported_where_nothing_lists_them(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").unlink()
    (folder / "Annotations" / "four.xml").write_text(voc_xml("two"))
    dataset = open_dataset(folder)
    assert [image.image_id for image in dataset.images] == ["one", "three", "two"]
    assert "'four.jpg' is not there" in dataset.problems[0].what


def test_images_without_annotations_are_reported_where_nothing_lists_them(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").unlink()
    (folder / "Annotations" / "one.xml").unlink()
    dataset = open_dataset(folder)
    assert [image.image_id for image in dataset.images] == ["three", "two"]
    (problem,) = dataset.problems
    assert problem.where.endswith("Annotations: 'one.jpg'")
    assert problem.what == "the image has no XML file; left out"


@pytest.mark.parametrize("check_images", [True, False])
@pytest.mark.parametrize("stem", ["../secret", "/etc/passwd", "one/../../secret"])
def test_a_listed_name_that_leaves_the_folder_is_refused(stem: str, check_images: bool, folder: Path) -> None:
    (folder / "secret.xml").write_text(voc_xml("one"))
    (folder / "ImageSets" / "Main" / "train.txt").write_text(f"one\n{stem}\n")
    with pytest.raises(DataError, match="leaves the folder"):
        open_dataset(folder, check_images=check_images)


def test_a_linked_annotation_that_leaves_the_folder_is_not_read(folder: Path) -> None:
    (folder / "secret.xml").write_text(voc_xml("one"))
    (folder / "Annotations" / "one.xml").unlink()
    (folder / "Annotations" / "one.xml").symlink_to(folder / "secret.xml")
    dataset = open_dataset(folder)
    assert [image.image_id for image in dataset.images] == ["two", "three"]
    assert "leaves the folder" in dataset.problems[0].what


def test_an_image_listed_twice_is_read_once(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").write_text("\ufeffone\r\n\r\n two \nthree\none\n")
    dataset = open_dataset(folder)
    assert [image.image_id for image in dataset.images] == ["one", "two", "three"]
    assert dataset.problems[0].where.endswith("train.txt:5")


def test_a_list_that_is_no_text_is_an_error(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xff\xfe\xfd\n")
    with pytest.raises(DataError, match=r"train\.txt"):
        open_dataset(folder)


def test_lists_of_one_class_are_no_splits(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "dog_train.txt").write_text("one  1\ntwo -1\nthree  1\n")
    assert [split.name for split in find_splits(folder)] == ["train"]


@pytest.mark.parametrize("ending", [".png", ".jpeg", ".JPG"])
def test_other_endings(ending: str, tmp_path: Path) -> None:
    assert open_dataset(write_voc(tmp_path, ending)).images[0].file_name == f"one{ending}"


def test_names_and_endings_in_another_case_are_found(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").write_text("ONE\nJPEGImages/two.jpg\nThree.JPG\n")
    (folder / "Annotations" / "two.xml").rename(folder / "Annotations" / "two.XML")
    dataset = open_dataset(folder)
    assert [image.image_id for image in dataset.images] == ["one", "two", "three"]
    assert [len(image.labels) for image in dataset.images] == [2, 0, 2]


def test_two_xml_files_of_one_image_are_fatal(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").unlink()
    (folder / "Annotations" / "One.xml").write_text(voc_xml("one"))
    with pytest.raises(DataError, match=r"'One\.xml' and 'one\.xml' both belong to 'one\.jpg'"):
        open_dataset(folder)


@pytest.mark.parametrize("place", [".", "VOC2007", "VOCdevkit/VOC2007"])
def test_usual_layouts(place: str, tmp_path: Path) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    write_voc(tmp_path / place)
    for given in (tmp_path, tmp_path / place):
        assert len(open_dataset(given, "train").images) == len(SIZES)


def test_several_years(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        write_voc(tmp_path / "VOCdevkit" / year)
    (tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").write_text("two\n")
    assert len(open_dataset(tmp_path, "test").images) == 1
    assert len(open_dataset(tmp_path, "VOC2012/train").images) == len(SIZES)
    assert len(open_dataset(tmp_path / "VOCdevkit/VOC2012").images) == len(SIZES)
    with pytest.raises(DataError, match=r"(?s)several splits.*VOC2007/train .*VOC2012/train "):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize(
    ("split", "images", "objects"),
    [("train", 205, 2805), ("val", 87, 1138), ("trainval", 292, 3943), ("test", 72, 945)],
)
def test_photographs(photographs: Path, split: str, images: int, objects: int) -> None:
    dataset = open_dataset(photographs / "bccd_voc", split)
    assert len(dataset.images) == images
    assert sum(len(image.labels) for image in dataset.images) == objects
    assert dataset.classes == ("Platelets", "RBC", "WBC")


def test_genuine_voc(photographs: Path) -> None:
    dataset: Any = open_dataset(photographs / "voc_sample", "VOC2007/trainval")
    (image,) = dataset.images
    assert (image.image_id, image.height, image.width) == ("000001", 500, 353)
    assert [dataset.classes[label] for label in image.labels] == ["dog", "person"]
    assert image.boxes.tolist() == [[47, 239, 195, 371], [7, 11, 352, 498]]


def test_a_class_list_beside_the_annotations_gives_order_and_unused_classes(folder: Path) -> None:
    (folder / "labelmap.txt").write_text("dog:::\nbird:::\ncat:::\n")
    dataset = open_dataset(folder)
    assert dataset.classes == ("dog", "bird", "cat")
    assert [image.labels.tolist() for image in dataset.images] == [[0, 2], [], [0, 0]]
    assert dataset.problems == ()


def test_classes_that_the_list_lacks_are_added_and_reported(folder: Path) -> None:
    (folder / "labelmap.txt").write_text("bird:::\ndog:::\n")
    dataset = open_dataset(folder)
    assert dataset.classes == ("bird", "dog", "cat")
    (problem,) = dataset.problems
    assert problem.where == str(folder / "labelmap.txt")
    assert "'cat'" in problem.what
