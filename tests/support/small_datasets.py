"""Three small images with four objects, written in every format that is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = {"one": (40, 60), "two": (50, 50), "three": (30, 80)}
"""Stem to (height, width)."""

OBJECTS = [
    ("one", "dog", (10.0, 5.0, 30.0, 25.0)),
    ("one", "cat", (0.0, 0.0, 60.0, 40.0)),
    ("three", "dog", (70.0, 10.0, 80.0, 30.0)),
    ("three", "dog", (1.0, 2.0, 21.0, 12.0)),
]
"""Stem, class and x1 y1 x2 y2; image two has none."""

BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'


def write_images(folder: Path, ending: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (stem, size) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{stem}{ending}")


def coco_content(ending: str = ".png") -> dict[str, Any]:
    ids = {stem: 7 * number for number, stem in enumerate(SIZES)}
    categories = {"cat": 3, "dog": 17}
    return {
        "images": [
            {"id": ids[stem], "file_name": f"{stem}{ending}", "height": height, "width": width}
            for stem, (height, width) in SIZES.items()
        ],
        "annotations": [
            {
                "id": number,
                "image_id": ids[stem],
                "category_id": categories[name],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1) / 2,
                "iscrowd": 0,
            }
            for number, (stem, name, (x1, y1, x2, y2)) in enumerate(OBJECTS, start=1)
        ],
        "categories": [{"id": category_id, "name": name} for name, category_id in categories.items()],
    }


def write_coco(folder: Path, ending: str = ".png", content: Any = None) -> Path:
    """`train.json` and `images/`."""
    write_images(folder / "images", ending)
    (folder / "train.json").write_text(json.dumps(coco_content(ending) if content is None else content))
    return folder


def voc_xml(stem: str, size: tuple[int, int] | None = None) -> str:
    height, width = SIZES[stem] if size is None else size
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(number == 3)}</difficult><bndbox><xmin>{x1 + 1:g}</xmin>"
        f"<ymin>{y1 + 1:g}</ymin><xmax>{x2:g}</xmax><ymax>{y2:g}</ymax></bndbox></object>"
        for number, (owner, name, (x1, y1, x2, y2)) in enumerate(OBJECTS)
        if owner == stem
    )
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"


def write_voc(folder: Path, ending: str = ".jpg") -> Path:
    """`Annotations/`, `JPEGImages/` and `ImageSets/Main/train.txt`."""
    write_images(folder / "JPEGImages", ending)
    (folder / "Annotations").mkdir()
    for stem in SIZES:
        (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml(stem))
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{stem}\n" for stem in SIZES))
    return folder


def yolo_lines(stem: str) -> str:
    height, width = SIZES[stem]
    return "".join(
        f"{int(name == 'dog')} {(x1 + x2) / 2 / width:.17g} {(y1 + y2) / 2 / height:.17g} "
        f"{(x2 - x1) / width:.17g} {(y2 - y1) / height:.17g}\n"
        for owner, name, (x1, y1, x2, y2) in OBJECTS
        if owner == stem
    )


def write_yolo(folder: Path, ending: str = ".png") -> Path:
    """`data.yaml`, `images/train/` and `labels/train/`, image two without a label file."""
    write_images(folder / "images" / "train", ending)
    (folder / "labels" / "train").mkdir(parents=True)
    for stem in ("one", "three"):
        (folder / "labels" / "train" / f"{stem}.txt").write_text(yolo_lines(stem))
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n")
    return folder


def csv_text(ending: str = ".png", folder: str = "") -> str:
    """What TensorFlow's `xml_to_csv` makes of VOC's XML; image two has no row."""
    rows = [
        f"{folder}{stem}{ending},{SIZES[stem][1]},{SIZES[stem][0]},{name},{x1 + 1:g},{y1 + 1:g},{x2:g},{y2:g}"
        for stem, name, (x1, y1, x2, y2) in OBJECTS
    ]
    return "\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *rows, ""])


def write_csv(folder: Path, ending: str = ".png") -> Path:
    """`images/train/` and `images/train_labels.csv`."""
    write_images(folder / "images" / "train", ending)
    (folder / "images" / "train_labels.csv").write_text(csv_text(ending))
    return folder


def write_cvat(folder: Path, ending: str = ".png") -> Path:
    """CVAT's YOLO 1.1: `obj.data`, `obj.names`, `train.txt` and `obj_train_data/`."""
    write_images(folder / "obj_train_data", ending)
    for stem in SIZES:
        (folder / "obj_train_data" / f"{stem}.txt").write_text(yolo_lines(stem))
    (folder / "obj.names").write_text("cat\ndog\n")
    (folder / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    (folder / "train.txt").write_text("".join(f"data/obj_train_data/{stem}{ending}\n" for stem in SIZES))
    return folder


def write_label_studio(folder: Path, ending: str = ".png") -> Path:
    """`classes.txt`, `images/`, `labels/` and `notes.json`."""
    write_images(folder / "images", ending)
    (folder / "labels").mkdir()
    for stem in SIZES:
        (folder / "labels" / f"{stem}.txt").write_text(yolo_lines(stem))
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "notes.json").write_text('{"categories": [{"id": 0, "name": "cat"}], "info": {"year": 2024}}')
    return folder


WRITERS: dict[str, Callable[[Path, str], Path]] = {
    "coco": write_coco,
    "csv": write_csv,
    "cvat": write_cvat,
    "label_studio": write_label_studio,
    "voc": write_voc,
    "yolo": write_yolo,
}
