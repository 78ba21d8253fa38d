"""YOLO data files and labels, sound and faulty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detdistill.core.errors import DataError, LeftOutError
from detdistill.data import open_dataset
from support.small_datasets import OBJECTS, SIZES, write_cvat, write_images, write_yolo

NAMES = "names: [cat, dog]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_yolo(tmp_path)


def labels(folder: Path, *lines: str) -> None:
    (folder / "labels" / "train" / "one.txt").write_text("\n".join(lines))


def test_everything_is_read(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (1, 2))
    assert [image.image_id for image in dataset.images] == ["one", "three", "two"]
    assert dataset.images[0].file_name == "images/train/one.png"
    assert [(image.height, image.width) for image in dataset.images] == [SIZES[str(i.image_id)] for i in dataset.images]
    boxes = np.concatenate([image.boxes for image in dataset.images])
    np.testing.assert_allclose(boxes, [box for _, _, box in OBJECTS], atol=1e-9)
    assert [image.labels.tolist() for image in dataset.images] == [[1, 0], [1, 1], []]


def test_images_without_labels_are_counted(folder: Path) -> None:
    (problem,) = open_dataset(folder).problems
    assert problem.what.endswith("without objects: 1 ('images/train/two.png')")


def test_labels_without_image_are_reported(folder: Path) -> None:
    (folder / "labels" / "train" / "four.txt").write_text("0 .5 .5 .1 .1\n")
    problems = open_dataset(folder).problems
    assert [Path(problem.where).name for problem in problems if "no image" in problem.what] == ["four.txt"]


def test_polygons_become_their_boxes(folder: Path) -> None:
    labels(folder, "1 0.1 0.5 0.5 0.25 0.3 1.0")
    np.testing.assert_allclose(open_dataset(folder).images[0].boxes, [[6, 10, 30, 40]])


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("0 .5 .5 .1", "class index"),
        ("0 .5 .5 .1 .1 -.9", "class index"),
        ("0", "class index"),
        ("dog .5 .5 .1 .1", "class index"),
        ("nan .5 .5 .1 .1", "class index"),
        ("0 .5 nan .1 .1", "class index"),
        ("0 .5 .5 1e400 .1", "class index"),
        ("0 .5 .5 .1 .1 x", "class index"),
        ("\0\udcff", "class index"),
        ("0 .5 .5 0 .1", "no area"),
        ("0 1.5 .5 .1 .1", "outside"),
        ("0 30 20 10 10", "fractions"),
    ],
)
def test_an_unusable_line_is_left_out_and_reported(line: str, word: str, folder: Path) -> None:
    text = f"0 .5 .5 .1 .1\n\n{line}\n"
    (folder / "labels" / "train" / "one.txt").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LeftOutError):
        open_dataset(folder)
    dataset = open_dataset(folder, accept_left_out=True)
    assert len(dataset.images[0].labels) == 1
    (problem,) = (problem for problem in dataset.problems if "one.txt" in problem.where)
    assert problem.where.endswith("one.txt:3")
    assert word in problem.what
    assert (problem.outcome, problem.unit) == ("left out", "annotation")


def test_a_box_that_reaches_out_is_clipped_and_reported(folder: Path) -> None:
    labels(folder, "0 0 .5 .5 .5")
    dataset = open_dataset(folder)
    np.testing.assert_allclose(dataset.images[0].boxes, [[0, 10, 15, 30]])
    assert "clipped" in [problem.what.rpartition("; ")[2] for problem in dataset.problems]


def test_decimals_rounded_outwards_are_no_problem(folder: Path) -> None:
    labels(folder, "0 0.500001 0.5 1.0 1.0")
    assert not any("one.txt" in problem.where for problem in open_dataset(folder).problems)


@pytest.mark.parametrize("word", ["2", "-1", "0.5"])
def test_an_unknown_class_is_fatal(word: str, folder: Path) -> None:
    labels(folder, "0 .5 .5 .1 .1", f"{word} .5 .5 .1 .1")
    with pytest.raises(DataError, match=rf"one\.txt:2: the class {word} is none of the 2"):
        open_dataset(folder)


def test_a_class_index_may_have_decimals(folder: Path) -> None:
    labels(folder, "1.000000 .5 .5 .1 .1")
    assert open_dataset(folder).images[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("names: {0: cat, 2: dog}", "none with the index 1"),
        ("names: {a: cat}", "none with the index 0"),
        ("names: []", "must list"),
        ("names: 2", "must list"),
        ("names: [cat, [dog]]", "must list"),
        ("names: &a [cat, *a]", "the value holds itself"),
        ("names: [cat, cat]", "2 times"),
        ("names: [cat, dog]\nnc: 3", "'nc' says '3' classes and 'names' lists 2"),
    ],
)
def test_faulty_class_names_are_fatal(config: str, word: str, folder: Path) -> None:
    (folder / "data.yaml").write_text(f"train: images/train\n{config}\n")
    with pytest.raises(DataError, match=r"data\.yaml") as caught:
        open_dataset(folder)
    assert word in str(caught.value)


@pytest.mark.parametrize("count", ["3", "9" * 5000])  # Python converts at most 4300 digits
def test_a_count_of_classes_that_is_not_theirs_is_fatal(count: str, tmp_path: Path) -> None:
    config = write_cvat(tmp_path) / "obj.data"
    config.write_text(config.read_text().replace("classes = 2", f"classes = {count}"))
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    (problem,) = caught.value.problems
    assert problem.where == str(config)
    assert len(problem.what) < 500


def test_names_that_yaml_takes_for_other_types_stay_names(folder: Path) -> None:
    (folder / "data.yaml").write_text("train: images/train\nnames: [no, 1, 2001-01-01]\nnc: 3\n")
    assert open_dataset(folder).classes == ("no", "1", "2001-01-01")


@pytest.mark.parametrize(
    "config",
    [
        "names: [cat, dog\n",
        "names: " + "[" * 5000,
        "names: !!python/object/apply:os.system [ls]\n",
        "names: [cat]\n\0",
        "- names: 1\n",
        NAMES,
        f"train:\n{NAMES}",
        f"train: images/none\n{NAMES}",
        f"train: {'x' * 6000}\n{NAMES}",
        f"train: x\npath: {'x' * 6000}\n{NAMES}",
        f'train: "\\0"\n{NAMES}',
        f"train: [images/train, [x]]\n{NAMES}",
        f"train: {{a: b}}\n{NAMES}",
        f"train: labels/train\n{NAMES}",
        f"train: ''\n{NAMES}" + "# padding\n" * 200_000,
    ],
)
def test_a_faulty_data_file_is_an_error_that_names_it(config: str, folder: Path) -> None:
    (folder / "data.yaml").write_text(config)
    with pytest.raises(DataError, match=r"data\.yaml"):
        open_dataset(folder / "data.yaml")


@pytest.mark.parametrize(
    "config",
    [
        "train: images/train",
        "train: [images/train]",
        "train: ../images/train",
        "path: .\ntrain: ./images/train",
        "path: images\ntrain: train",
        "path: /no/such/folder/on/this/machine\ntrain: images/train",
        "train: train.txt",
        "train: lists/train.txt",
        "train: images",
    ],
)
def test_ways_to_say_where_the_images_are(config: str, folder: Path) -> None:
    names = [f"images/train/{stem}.png\n" for stem in ("one", "three")]
    (folder / "lists").mkdir()
    (folder / "train.txt").write_text("./" + "\n./".join(names) + f"\n{folder}/images/train/two.png\n")
    (folder / "lists" / "train.txt").write_text("../" + "../".join(names) + "images/train/two.png\n")
    (folder / "data.yaml").write_text(f"{config}\nval:\n{NAMES}")
    dataset = open_dataset(folder, "train")
    assert [image.image_id for image in dataset.images] == ["one", "three", "two"]
    assert [image.path.resolve() for image in dataset.images] == [
        (folder / "images" / "train" / f"{stem}.png").resolve() for stem in ("one", "three", "two")
    ]
    assert [len(image.labels) for image in dataset.images] == [2, 2, 0]


@pytest.mark.parametrize(
    "lines",
    [
        "images\\train\\one.png\n.\\images\\train\\three.png\n",
        "Images/Train/ONE.PNG\nimages/train/Three.png\n",
        "/home/other/pets/images/train/one.png\nC:\\pets\\images\\train\\three.png\n",
        "\ufeffimages/train/one\nimages/train/three\n\n",
    ],
)
def test_ways_to_list_images(lines: str, folder: Path) -> None:
    (folder / "train.txt").write_text(lines)
    (folder / "data.yaml").write_text(f"train: train.txt\n{NAMES}")
    dataset = open_dataset(folder)
    assert [image.file_name for image in dataset.images] == ["images/train/one.png", "images/train/three.png"]
    assert [len(image.labels) for image in dataset.images] == [2, 2]


def test_a_list_of_images_that_are_in_a_folder_given_by_hand(folder: Path) -> None:
    write_images(folder / "copies" / "images")
    (folder / "copies" / "labels").mkdir()
    (folder / "copies" / "labels" / "one.txt").write_text("0 .5 .5 .1 .1\n")
    (folder / "train.txt").write_text("./images/train/one.png\n")
    (folder / "data.yaml").write_text(f"train: train.txt\n{NAMES}")
    (image,) = open_dataset(folder, images="copies/images").images
    assert image.path == folder / "copies" / "images" / "one.png"
    assert len(image.labels) == 1


@pytest.mark.parametrize("names", ["/a/one.png\n/b/one.png\n", "one.png\n/b/one.png\n"])
def test_two_listed_names_that_mean_one_image_are_fatal(names: str, folder: Path) -> None:
    write_images(folder)
    (folder / "train.txt").write_text(names)
    (folder / "data.yaml").write_text(f"train: train.txt\n{NAMES}")
    with pytest.raises(DataError, match=r"train\.txt:2: .*both taken for"):
        open_dataset(folder)


def test_roboflows_layout(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_images(tmp_path / split / "images")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "two.txt").write_text("1 .5 .5 .2 .2\n")
    (tmp_path / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\n\nnc: 2\n{NAMES}")
    dataset = open_dataset(tmp_path, "val")
    assert [len(image.labels) for image in dataset.images] == [0, 0, 1]
    assert dataset.images[0].file_name == "valid/images/one.png"


def test_labels_beside_the_images(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    (tmp_path / "photos" / "two.txt").write_text("1 .5 .5 .2 .2\n")
    (tmp_path / "data.yaml").write_text(f"train: photos\n{NAMES}")
    assert [len(image.labels) for image in open_dataset(tmp_path).images] == [0, 0, 1]


def test_images_with_one_stem_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_images(tmp_path / "images" / place)
    (tmp_path / "data.yaml").write_text(f"train: images\n{NAMES}")
    ids = [image.image_id for image in open_dataset(tmp_path).images]
    assert ids == [f"images/{place}/{stem}" for place in ("a", "b") for stem in ("one", "three", "two")]


def test_images_that_share_a_label_file_are_fatal(folder: Path) -> None:
    write_images(folder / "images" / "train", ".jpg")
    with pytest.raises(DataError, match="2 images differ in their endings"):
        open_dataset(folder)


def test_a_listed_image_that_is_missing_is_fatal(folder: Path) -> None:
    (folder / "train.txt").write_text("images/train/one.png\nimages/train/nine.png\nimages/train/one.png\n")
    (folder / "data.yaml").write_text(f"train: train.txt\n{NAMES}")
    with pytest.raises(DataError, match=r"train\.txt:2: image 'images/train/nine\.png'") as caught:
        open_dataset(folder)
    assert "again" in caught.value.problems[-1].what


@pytest.mark.parametrize("line", ["../secret.png", "/etc/passwd", "./../secret.png", "images/link.png"])
def test_a_listed_image_that_leaves_the_folder_is_refused(line: str, folder: Path) -> None:
    root = folder / "inner"
    write_yolo(root)
    write_images(folder)
    (folder / "one.png").rename(folder / "secret.png")
    (root / "images" / "link.png").symlink_to(folder / "secret.png")
    (root / "train.txt").write_text(f"{line}\n")
    (root / "data.yaml").write_text(f"train: train.txt\n{NAMES}")
    with pytest.raises(DataError, match=r"train\.txt:1: .* leaves"):
        open_dataset(root)


def test_an_unreadable_image_is_fatal(folder: Path) -> None:
    (folder / "images" / "train" / "one.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"one\.png"):
        open_dataset(folder)


def test_a_split_that_the_file_lacks_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="no split 'val'"):
        open_dataset(folder / "data.yaml", "val")
