"""Symbolic links out of the dataset's folder: refused in every layout, and followed where the user wants it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detdistill.core.errors import DataError
from detdistill.data import open_dataset
from support.small_datasets import SIZES, coco_content, voc_xml, write_coco, write_images, write_voc, write_yolo


def link_images(folder: Path, pool: Path, ending: str) -> None:
    """Moves the images to another folder and links each."""
    pool.mkdir()
    for stem in SIZES:
        (folder / f"{stem}{ending}").rename(pool / f"{stem}{ending}")
        (folder / f"{stem}{ending}").symlink_to(pool / f"{stem}{ending}")


def coco(root: Path, pool: Path) -> None:
    write_coco(root)
    link_images(root / "images", pool, ".png")


def coco_with_linked_subfolder(root: Path, pool: Path) -> None:
    write_coco(root)
    (root / "images").rename(pool)
    (root / "images").mkdir()
    (root / "images" / "linked").symlink_to(pool)
    content = coco_content()
    for image in content["images"]:
        image["file_name"] = f"linked/{image['file_name']}"
    (root / "train.json").write_text(json.dumps(content))


def voc(root: Path, pool: Path) -> None:
    write_voc(root)
    link_images(root / "JPEGImages", pool, ".jpg")


def voc_annotations(root: Path, pool: Path) -> None:
    write_voc(root)
    link_images(root / "Annotations", pool, ".xml")
    (root / "ImageSets" / "Main" / "train.txt").unlink()


def yolo(root: Path, pool: Path) -> None:
    write_yolo(root)
    link_images(root / "images" / "train", pool, ".png")


def yolo_list(root: Path, pool: Path) -> None:
    yolo(root, pool)
    (root / "train.txt").write_text("".join(f"images/train/{stem}.png\n" for stem in SIZES))
    (root / "data.yaml").write_text("train: train.txt\nnames: [cat, dog]\n")


def yolo_linked_subfolder(root: Path, pool: Path) -> None:
    write_yolo(root)
    (root / "images" / "train").rename(pool)
    (root / "images" / "train").mkdir()
    (root / "images" / "train" / "linked").symlink_to(pool)
    (root / "labels" / "train").rename(root / "labels" / "moved")
    (root / "labels" / "train").mkdir()
    (root / "labels" / "moved").rename(root / "labels" / "train" / "linked")
    (pool / "circle").symlink_to(root / "images")


def yolo_linked_folder(root: Path, pool: Path) -> None:
    write_yolo(root)
    (root / "images" / "train").rename(pool)
    (root / "images" / "train").symlink_to(pool)


def yolo_labels(root: Path, pool: Path) -> None:
    write_yolo(root)
    (root / "labels" / "train" / "two.txt").write_text("")
    link_images(root / "labels" / "train", pool, ".txt")


def table(root: Path, pool: Path) -> None:
    write_images(root / "images")
    link_images(root / "images", pool, ".png")
    rows = "".join(f"{stem}.png,dog,1,1,9,9\n" for stem in SIZES)
    (root / "train.csv").write_text(f"filename,class,xmin,ymin,xmax,ymax\n{rows}")


WRITERS: list[Callable[[Path, Path], None]] = [
    coco,
    coco_with_linked_subfolder,
    voc,
    voc_annotations,
    yolo,
    yolo_list,
    yolo_linked_subfolder,
    yolo_linked_folder,
    yolo_labels,
    table,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_links_out_of_the_dataset_are_refused_with_the_option_that_follows_them(
    write: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    root = tmp_path / "dataset"
    root.mkdir()
    write(root, tmp_path / "pool")
    with pytest.raises(DataError, match="--follow-links"):
        open_dataset(root)
    followed = open_dataset(root, follow_links=True)
    assert len(followed.images) == len(SIZES)
    assert all(image.path.is_relative_to(root) for image in followed.images)


@pytest.mark.parametrize("listed", [False, True])
def test_links_to_other_places_of_the_dataset_need_no_option(listed: bool, tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    root.mkdir()
    (yolo_list if listed else yolo)(root, root / "pool")
    assert [len(image.labels) for image in open_dataset(root).images].count(2) == 2


def test_an_image_folder_that_is_a_link_needs_no_option(tmp_path: Path) -> None:
    """`detdistill data split` writes such folders."""
    write_coco(tmp_path)
    (tmp_path / "images").rename(tmp_path / "photos")
    (tmp_path / "images").symlink_to("photos")
    assert len(open_dataset(tmp_path).images) == len(SIZES)


def test_names_with_dots_are_refused_whatever_links_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "dataset"
    root.mkdir()
    write_voc(root)
    (tmp_path / "secret.xml").write_text(voc_xml("one"))
    (root / "ImageSets" / "Main" / "train.txt").write_text("../../secret\n")
    with pytest.raises(DataError, match="leaves the folder"):
        open_dataset(root, follow_links=True)
