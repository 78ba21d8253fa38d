"""COCO annotation files, sound and faulty."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, LeftOutError, Problem
from detdistill.data import open_dataset
from support.small_datasets import OBJECTS, SIZES, coco_content, write_coco, write_images


@pytest.fixture
def content() -> dict[str, Any]:
    return coco_content()


def opened(folder: Path, content: Any, **options: Any) -> DetectionDataset:
    return open_dataset(write_coco(folder, content=content), **options)


def refused(folder: Path, content: Any, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(DataError) as caught:
        opened(folder, content, **options)
    assert "train.json" in str(caught.value)
    return caught.value.problems


def test_everything_is_read(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path))
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (3, 17))
    assert [image.image_id for image in dataset.images] == [0, 7, 14]
    assert [(image.height, image.width) for image in dataset.images] == list(SIZES.values())
    assert [image.path for image in dataset.images] == [tmp_path / "images" / f"{stem}.png" for stem in SIZES]
    one, two, three = dataset.images
    assert one.boxes.tolist() == [list(OBJECTS[0][2]), list(OBJECTS[1][2])]
    assert [image.labels.tolist() for image in dataset.images] == [[1, 0], [], [1, 1]]
    assert one.areas.tolist() == [200, 1200]
    assert (two.boxes.shape, three.boxes.shape) == ((0, 4), (2, 4))
    assert dataset.problems == ()


def test_classes_are_ordered_by_their_ids(content: dict[str, Any], tmp_path: Path) -> None:
    content["categories"].reverse()
    assert opened(tmp_path, content).classes == ("cat", "dog")


def test_crowds_are_flagged(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][1]["iscrowd"] = 1
    assert opened(tmp_path, content).images[0].crowd.tolist() == [False, True]


def test_optional_entries_may_be_missing(content: dict[str, Any], tmp_path: Path) -> None:
    for entry in content["annotations"]:
        for key in ("id", "iscrowd", "area"):
            del entry[key]
    dataset = opened(tmp_path, content)
    assert dataset.images[0].areas.tolist() == [400, 2400]
    assert dataset.problems == ()


@pytest.mark.parametrize("size", [(None, None), (0, 0), ("60", 40), (60.5, 40), (-60, 40), (1e300, 40)])
def test_a_missing_or_impossible_size_is_the_images_own(size: Any, content: dict[str, Any], tmp_path: Path) -> None:
    content["images"][0].update(width=size[0], height=size[1])
    dataset = opened(tmp_path, content)
    assert (dataset.images[0].height, dataset.images[0].width) == SIZES["one"]
    assert len(dataset.problems) == (size != (None, None))


def test_an_image_that_is_missing_like_its_size_is_one_problem(content: dict[str, Any], tmp_path: Path) -> None:
    del content["images"][0]["width"], content["images"][0]["height"]
    write_coco(tmp_path, content=content)
    (tmp_path / "images" / "one.png").unlink()
    with pytest.raises(DataError, match=r"one\.png") as caught:
        open_dataset(tmp_path)
    assert len(caught.value.problems) == 1


def test_a_missing_size_of_an_unreadable_image_is_fatal(content: dict[str, Any], tmp_path: Path) -> None:
    del content["images"][0]["width"]
    write_coco(tmp_path, content=content)
    (tmp_path / "images" / "one.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"image 0: width and height are missing, and .*one\.png"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("bbox", [10, 5, math.nan, 20], "finite"),
        ("bbox", [10, 5, math.inf, 20], "finite"),
        ("bbox", [10, 5, 10**400, 20], "finite"),
        ("bbox", [10, 5, 20], "four"),
        ("bbox", ["ten", 5, 20, 20], "four"),
        ("bbox", "10 5 20", "four"),
        ("bbox", None, "four"),
        ("bbox", {"x": 1}, "four"),
        ("bbox", [10, 5, 0, 20], "no area"),
        ("bbox", [70, 5, 10, 20], "outside"),
        ("image_id", 99, "none of the images"),
        ("image_id", None, "none of the images"),
        ("image_id", [0], "none of the images"),
        ("image_id", "0.5", "none of the images"),
        ("image_id", True, "none of the images"),
    ],
)
def test_an_unusable_annotation_is_left_out_and_reported(
    key: str, value: Any, word: str, content: dict[str, Any], tmp_path: Path
) -> None:
    content["annotations"][0][key] = value
    dataset = opened(tmp_path, content, accept_left_out=True)
    assert sum(len(image.labels) for image in dataset.images) == len(OBJECTS) - 1
    (problem,) = dataset.problems
    assert problem.where.endswith("train.json: annotation 1")
    assert word in problem.what
    assert (problem.outcome, problem.unit) == ("left out", "annotation")
    with pytest.raises(LeftOutError) as caught:
        opened(tmp_path, content)
    assert (caught.value.left_out, caught.value.annotated) == (1, len(OBJECTS))
    assert caught.value.problems == dataset.problems


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_id", "0"),
        ("image_id", 0.0),
        ("image_id", " 0.0 "),
        ("category_id", "17"),
        ("category_id", 17.0),
        ("bbox", ["10", 5, 20, "20.0"]),
        ("bbox", "[10, 5, 20, 20]"),
        ("bbox", "10 5 20 20"),
        ("bbox", [30, 5, -20, 20]),
        ("bbox", [30, 25, -20, -20]),
        ("iscrowd", "0"),
        ("iscrowd", "unknown"),
        ("area", "wide"),
    ],
)
def test_a_value_in_another_form_is_read_and_reported(
    key: str, value: Any, content: dict[str, Any], tmp_path: Path
) -> None:
    content["annotations"][0][key] = value
    dataset = opened(tmp_path, content)
    assert dataset.images[0].boxes[0].tolist() == list(OBJECTS[0][2])
    assert (dataset.classes[dataset.images[0].labels[0]], bool(dataset.images[0].crowd[0])) == ("dog", False)
    (problem,) = dataset.problems
    assert (problem.outcome, problem.unit, problem.fatal) == ("changed", "annotation", False)
    assert problem.where.endswith("train.json: annotation 1")


@pytest.mark.parametrize("value", [True, "1", "true", 1.0, 2])
def test_crowd_flags_in_other_forms(value: Any, content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][1]["iscrowd"] = value
    dataset = opened(tmp_path, content)
    assert dataset.images[0].crowd.tolist() == [False, True]
    assert len(dataset.problems) == (value not in (True, 1.0))


@pytest.mark.parametrize("ids", [("5", "05", "6"), ("5.0", "5", "6")])
def test_an_id_that_can_mean_two_images_means_none(
    ids: tuple[str, ...], content: dict[str, Any], tmp_path: Path
) -> None:
    for image, image_id in zip(content["images"], ids, strict=True):
        image["id"] = image_id
    for annotation in content["annotations"]:
        annotation["image_id"] = 6
    content["annotations"][0]["image_id"] = 5
    dataset = opened(tmp_path, content, accept_left_out=True)
    assert [problem.outcome for problem in dataset.problems].count("left out") == 1


def test_image_ids_with_decimal_points_are_whole_numbers(content: dict[str, Any], tmp_path: Path) -> None:
    for image in content["images"]:
        image["id"] = float(image["id"])
    assert [image.image_id for image in opened(tmp_path, content).images] == [0, 7, 14]


def test_a_missing_box_is_the_extent_of_the_segmentation(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][0] |= {"bbox": None, "segmentation": [[10, 5, 30, 5, 20, 15], [12, 6, 20, 25, 15, 7]]}
    dataset = opened(tmp_path, content)
    assert dataset.images[0].boxes[0].tolist() == [10, 5, 30, 25]
    assert [problem.outcome for problem in dataset.problems] == ["changed"]


@pytest.mark.parametrize("segmentation", [{"counts": "abc", "size": [40, 60]}, [], [[1, 2]], ["x"]])
def test_a_segmentation_without_polygons_gives_no_box(
    segmentation: Any, content: dict[str, Any], tmp_path: Path
) -> None:
    content["annotations"][0] |= {"bbox": None, "segmentation": segmentation}
    with pytest.raises(LeftOutError):
        opened(tmp_path, content)


def test_a_box_that_reaches_out_is_clipped_and_reported(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][0]["bbox"] = [-10, 5, 30, 50]
    dataset = opened(tmp_path, content)
    assert dataset.images[0].boxes[0].tolist() == [0, 5, 20, 40]
    assert [problem.what.rpartition("; ")[2] for problem in dataset.problems] == ["clipped"]


def test_an_impossible_area_is_the_boxs(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][0]["area"] = -1
    dataset = opened(tmp_path, content)
    assert dataset.images[0].areas[0] == 400
    assert "area" in dataset.problems[0].what


def test_an_annotation_that_is_no_object_is_left_out(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"].append("annotation")
    (problem,) = opened(tmp_path, content, accept_left_out=True).problems
    assert problem.where.endswith("annotation number 4")


def test_annotations_with_one_id_are_all_kept(content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][1]["id"] = 1
    dataset = opened(tmp_path, content)
    assert sum(len(image.labels) for image in dataset.images) == len(OBJECTS)
    assert "more than once" in dataset.problems[0].what


@pytest.mark.parametrize("category_id", [4, None, "4", "dog", [3], 3.5])
def test_an_unknown_category_is_fatal(category_id: Any, content: dict[str, Any], tmp_path: Path) -> None:
    content["annotations"][2]["category_id"] = category_id
    (problem,) = refused(tmp_path, content)
    assert problem.where.endswith("annotation 3")
    assert "none of the categories" in problem.what


def test_an_image_id_used_twice_is_fatal(content: dict[str, Any], tmp_path: Path) -> None:
    content["images"][1]["id"] = 0
    (problem,) = refused(tmp_path, content)
    assert "'one.png'" in problem.what
    assert "'two.png'" in problem.what


def test_a_file_under_two_ids_is_kept_twice_and_reported(tmp_path: Path, content: dict[str, Any]) -> None:
    content["images"].append({**content["images"][0], "id": 99})
    dataset = opened(tmp_path, content)
    assert [image.file_name for image in dataset.images] == ["one.png", "two.png", "three.png", "one.png"]
    (problem,) = dataset.problems
    assert problem.where.endswith("train.json: image 99")
    assert problem.what == "has the file 'one.png' of image 0; both are kept"


def test_a_category_id_used_twice_is_fatal(content: dict[str, Any], tmp_path: Path) -> None:
    content["categories"].append({"id": 3, "name": "cow"})
    (problem,) = refused(tmp_path, content)
    assert "'cat'" in problem.what
    assert "'cow'" in problem.what


def test_categories_of_one_name_are_one_class_with_the_id_in_use(content: dict[str, Any], tmp_path: Path) -> None:
    content["categories"].append({"id": 0, "name": "dog"})
    dataset = opened(tmp_path, content)
    assert (dataset.classes, dataset.category_ids) == (("dog", "cat"), (17, 3))
    assert [image.labels.tolist() for image in dataset.images] == [[0, 1], [], [0, 0]]
    assert "one class" in dataset.problems[0].what


@pytest.mark.parametrize(
    "entry", [None, {}, {"id": "1", "name": "a"}, {"id": 1, "name": ""}, {"id": 1, "name": "\ud83d"}]
)
def test_a_category_without_id_or_name_is_fatal(entry: Any, content: dict[str, Any], tmp_path: Path) -> None:
    content["categories"].append(entry)
    assert refused(tmp_path, content)[0].where.endswith("category number 2")


@pytest.mark.parametrize("entry", [None, {}, {"id": 1}, {"id": [1], "file_name": "one.png"}, {"id": 1, "file_name": 2}])
def test_an_image_without_id_or_name_is_fatal(entry: Any, content: dict[str, Any], tmp_path: Path) -> None:
    content["images"].append(entry)
    assert refused(tmp_path, content)[0].where.endswith("image number 3")


def test_missing_images_are_all_listed(content: dict[str, Any], tmp_path: Path) -> None:
    write_coco(tmp_path, content=content)
    for stem in ("one", "three"):
        (tmp_path / "images" / f"{stem}.png").unlink()
    with pytest.raises(DataError, match="2 problems") as caught:
        open_dataset(tmp_path)
    assert [problem.what.split()[1] for problem in caught.value.problems] == ["'one.png'", "'three.png'"]
    assert len(open_dataset(tmp_path, check_images=False).images) == len(SIZES)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "link.png"])
@pytest.mark.parametrize("check_images", [True, False])
def test_a_file_name_that_leaves_the_folder_is_refused(
    name: str, check_images: bool, content: dict[str, Any], tmp_path: Path
) -> None:
    write_coco(tmp_path)
    Image.new("RGB", (60, 40)).save(tmp_path / "secret.png")
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    content["images"][0]["file_name"] = name
    (problem,) = refused(tmp_path, content, check_images=check_images)
    assert problem.where.endswith("image 0")
    assert "leaves" in problem.what


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "not valid JSON"),
        (b'{"images": [}', "not valid JSON"),
        (b"\xff\xfe\xfd", "not valid JSON"),
        (b'{"images": ' + b"9" * 5000 + b"}", "'images' and 'annotations' and 'categories'"),
        (b"[" * 200_000, "too deeply"),
        (b"[]", "holds a list"),
        (b"3", "holds a int"),
        (b'{"images": [], "categories": {}}', "'annotations' and 'categories'"),
    ],
)
def test_what_is_not_coco_is_an_error_that_names_the_file(text: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(text)
    with pytest.raises(DataError, match=r"mine\.json") as caught:
        open_dataset(tmp_path / "mine.json")
    assert word in str(caught.value)


def test_one_run_lists_all_kinds_of_problems(content: dict[str, Any], tmp_path: Path) -> None:
    content["images"][2]["file_name"] = "four.png"
    content["annotations"][0]["category_id"] = 4
    content["annotations"][1]["bbox"] = []
    content["categories"].append(3)
    assert [problem.fatal for problem in refused(tmp_path, content)] == [True, True, True, False]


def test_half_characters_in_a_message_can_be_printed(content: dict[str, Any], tmp_path: Path) -> None:
    content["images"][0]["file_name"] = "\ud83d\x1b[2J.png"
    message = refused(tmp_path, content)[0].what
    assert message.isprintable()


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("train.json", "images"),
        ("train.json", "."),
        ("train.json", "train"),
        ("train.json", "images/train"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/train.json", "images"),
        ("train/_annotations.coco.json", "train"),
        ("photos_train.json", "images"),
    ],
)
def test_usual_layouts(annotations: str, images: str, tmp_path: Path) -> None:
    for other in ("train", "val"):
        file = tmp_path / annotations.replace("train", other)
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(json.dumps(coco_content()))
        write_images(tmp_path / images.replace("train", other))
    dataset = open_dataset(tmp_path, "train")
    assert dataset.source == str(tmp_path / annotations)
    assert {image.path.parent for image in dataset.images} == {tmp_path / images}
    assert len(open_dataset(tmp_path, "val").images) == len(SIZES)


def test_names_with_subfolders(content: dict[str, Any], tmp_path: Path) -> None:
    write_coco(tmp_path)
    for entry in content["images"]:
        entry["file_name"] = f"images/{entry['file_name']}"
    assert opened(tmp_path, content).images[0].path == tmp_path / "images" / "one.png"


def test_other_json_files_are_not_taken_for_annotations(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "train_results.json").write_text('[{"image_id": 1}]')
    (tmp_path / "package.json").write_text('{"name": "x"}')
    assert len(open_dataset(tmp_path).images) == len(SIZES)


def test_captions_beside_the_instances_are_not_taken_for_annotations(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for name in ("instances_val2017", "captions_val2017", "person_keypoints_val2017"):
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps(coco_content()))
    write_images(tmp_path / "val2017")
    assert open_dataset(tmp_path, "val").source.endswith("instances_val2017.json")


def test_ids_of_two_files_may_differ(content: dict[str, Any], tmp_path: Path) -> None:
    other = copy.deepcopy(content)
    shift = {3: 40, 17: 5}
    for entry in [*other["categories"], *other["annotations"]]:
        key = "id" if "name" in entry else "category_id"
        entry[key] = shift[entry[key]]
    write_coco(tmp_path)
    (tmp_path / "val.json").write_text(json.dumps(other))
    dataset = open_dataset(tmp_path, "val")
    assert (dataset.classes, dataset.category_ids) == (("dog", "cat"), (5, 40))
    assert [image.labels.tolist() for image in dataset.images] == [[0, 1], [], [0, 0]]


@pytest.mark.parametrize(
    ("folder", "split", "images", "objects", "crowds"),
    [
        ("facemask", "train", 636, 3108, 0),
        ("facemask", "val", 212, 910, 0),
        ("bccd", "train", 273, 3611, 0),
        ("bccd", "val", 91, 1275, 0),
        ("coco256", "train", 128, 932, 6),
        ("coco256", "val", 128, 903, 5),
    ],
)
def test_photographs(photographs: Path, folder: str, split: str, images: int, objects: int, crowds: int) -> None:
    dataset = open_dataset(photographs / folder, split)
    assert len(dataset.images) == images
    assert sum(len(image.labels) for image in dataset.images) == objects
    assert sum(image.crowd.sum() for image in dataset.images) == crowds
    assert dataset.problems == ()


@pytest.mark.parametrize(
    "name", ["images\\one.png", "/home/other/pets/images/one.png", "C:\\pets\\images\\one.png", "ONE.png", "./one.png"]
)
def test_names_of_other_machines_are_read_where_they_mean_one_file(
    name: str, content: dict[str, Any], tmp_path: Path
) -> None:
    content["images"][0]["file_name"] = name
    if "\\" in name and ":" not in name:
        for entry in content["images"][1:]:
            entry["file_name"] = f"images\\{entry['file_name']}"
    dataset = opened(tmp_path, content)
    assert [image.path for image in dataset.images] == [tmp_path / "images" / f"{stem}.png" for stem in SIZES]
    assert dataset.problems == ()


def test_two_names_that_mean_one_file_are_fatal(content: dict[str, Any], tmp_path: Path) -> None:
    for entry, part in zip(content["images"][:2], ("train", "val"), strict=True):
        entry["file_name"] = f"/home/other/{part}/one.png"
    (problem,) = refused(tmp_path, content)
    assert problem.where.endswith("image 7")
    assert "both taken for 'one.png'" in problem.what


def test_a_name_that_differs_in_case_from_two_files_is_fatal(content: dict[str, Any], tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "images" / "One.png").write_bytes((tmp_path / "images" / "one.png").read_bytes())
    content["images"][0]["file_name"] = "ONE.png"
    (problem,) = refused(tmp_path, content)
    assert "could mean One.png or one.png" in problem.what
