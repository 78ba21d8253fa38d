"""What stands beside a reader of the documentation before its first block, in the smallest size.

A page's files are named in `FILES`; recipes are always there, cut down to one epoch of a tiny detector.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import yaml

from detdistill.core.image_options import ImageSize
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.saving import save_detector
from support import transformers_models
from support.code_blocks import ROOT
from support.mmdet_files import checkpoint, mmdet_state, saved, small
from support.onnx_files import constants, f32, relative_times_size
from support.pairs import confident
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector

SIDE = 64
CLASSES = ("green", "red")
"""Of `write_boxes`."""
COCO_COLUMNS = 91


def tiny(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with its head, terms and teacher as they are, and everything small."""
    detector = {key: value for key, value in values.get("detector", {}).items() if key in ("kind", "options")}
    small_values = {
        "data": {**values.get("data", {}), "path": values.get("data", {}).get("path", "DATA"), "train": "train"},
        "detector": {**detector, "backbone_width": 0.125, "pyramid": {"channels": 16}, "towers": {"depth": 1}},
        "images": {"letterbox": SIDE},
        "batch_size": 4,
        "schedule": {"epochs": 1, "warmup_steps": 1},
        "machine": {"accelerator": "cpu", "workers": 0},
        "logging": {"every": 1},
    }
    own = {key: values[key] for key in ("distill", "seed") if key in values}
    if "distill" in own:  # teachers of these pages are not trained
        own["distill"] = {**own["distill"], "accept_teacher": True}
    return own | small_values


def write_recipes(folder: Path) -> None:
    """All recipes of the repository, tiny."""
    (folder / "recipes").mkdir()
    for file in (ROOT / "recipes").glob("*.yaml"):
        values = tiny(yaml.safe_load(file.read_text(encoding="utf-8")))
        (folder / "recipes" / file.name).write_text(yaml.safe_dump(values), encoding="utf-8")


def _data(path: Path) -> None:
    write_boxes(path, train=8, val=4, test=4, val2017=4)


def _dataset(path: Path) -> None:
    write_boxes(path, train=8, val=4, test=4)


def _photos(path: Path) -> None:
    shutil.copytree(write_boxes(path.with_suffix(".data"), val=1) / "val", path)
    (path / "0.png").rename(path / "0.jpg")  # decoders go by content


def _run(path: Path) -> None:
    detector = confident(tiny_detector("gfl", CLASSES))
    save_detector(detector, path, image_size=ImageSize(letterbox=SIDE))


def _as_found(path: Path) -> None:
    """The annotations become what `_run` finds, so that a teacher is right."""
    detector = confident(tiny_detector("gfl", CLASSES))
    for file in path.glob("*.json"):
        content = json.loads(file.read_text("utf-8"))
        folder = path.parent / file.stem.removeprefix("instances_")
        pictures = [folder / image["file_name"] for image in content["images"]]
        found = detector.predict(pictures, threshold=0.05, size=ImageSize(letterbox=SIDE))
        objects = [
            (image["id"], box.tolist(), int(label))
            for image, own in zip(content["images"], found, strict=True)
            for box, label in list(zip(own.boxes, own.labels, strict=True))[:3]
        ]
        content["annotations"] = [
            {
                "id": number,
                "image_id": image,
                "category_id": label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            for number, (image, (x1, y1, x2, y2), label) in enumerate(objects, start=1)
        ]
        file.write_text(json.dumps(content))


def _images(path: Path) -> None:
    shutil.copytree(write_boxes(path.with_suffix(".data"), pictures=6) / "pictures", path)


def _image(path: Path) -> None:
    shutil.copy(write_boxes(path.with_suffix(".data"), val=1) / "val" / "0.png", path)


def _annotations(path: Path) -> None:
    shutil.copy(write_boxes(path.with_suffix(".data")) / "annotations" / "instances_val.json", path)


def _results(path: Path) -> None:
    path.write_text(json.dumps([{"image_id": 0, "category_id": 1, "bbox": [3, 4, 20, 30], "score": 0.5}]))


def _mmdetection(path: Path) -> None:
    content = checkpoint(small("gfl"))
    content["meta"]["dataset_meta"]["classes"] = CLASSES
    saved(path.parent, content, path.name)


def _bare_weights(path: Path) -> None:
    saved(path.parent, mmdet_state(small("retinanet", extra_source="input")), path.name)


def _torchvision(path: Path) -> None:
    classes = [f"class {column}" for column in range(COCO_COLUMNS)]
    detector = TorchvisionDetector.from_architecture(TorchvisionArchitecture("fcos_resnet50_fpn", 1e-5), classes)
    torch.save(detector.network.state_dict(), path)


def _transformers(path: Path) -> None:
    pytest.importorskip("transformers")
    transformers_models.save(path, "rt_detr", CLASSES)


def _backbone(path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), path)


def _raw_yolo(path: Path) -> None:
    """Ultralytics' outputs on 64x64: in every image the objects of a few images of `coco` beside it."""
    folder = path.parent / "coco" / "annotations"
    contents = [json.loads((folder / f"instances_{part}.json").read_text("utf-8")) for part in ("train", "val")]
    objects = [each for content in contents for each in content["annotations"][:3]]
    values = np.zeros((4 + len(CLASSES), SIDE * SIDE * 21 // 1024), np.float32)
    values[:4] = 1.0
    for cell, each in enumerate(objects):
        x, y, width, height = each["bbox"]
        values[:4, cell] = x + width / 2, y + height / 2, width, height
        values[3 + each["category_id"], cell] = 0.75
    metadata = {"names": str(dict(enumerate(CLASSES))), "stride": "32", "task": "detect", "imgsz": "[64, 64]"}
    constants(path, {"output0": values}, size=(SIDE, SIDE), metadata=metadata)


def _dfine(path: Path) -> None:
    relative_times_size(path, f32([[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1, 1]]))


def _own_onnx(path: Path) -> None:
    constants(path, {"bboxes": f32([[0.5, 0.5, 0.25, 0.25]]), "probs": f32([[2.0, -2.0]])}, image="data")


def _examples(path: Path) -> None:
    shutil.copytree(ROOT / "examples", path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "DATA": _data,
    "DATA/annotations": _as_found,
    "IMAGES": _images,
    "coco": _data,
    "data/mine": _data,
    "dataset": _dataset,
    "photos": _photos,
    "more": _photos,
    "runs/teacher": _run,
    "runs/teacher_retinanet": _run,
    "runs/baseline": _run,
    "runs/student": _run,
    "image.png": _image,
    "annotations.json": _annotations,
    "results.json": _results,
    "gfl_r101_fpn_ms-2x_coco.pth": _mmdetection,
    "weights.pth": _bare_weights,
    "fcos_resnet50_fpn_coco-99b0c9b7.pth": _torchvision,
    "teachers/rtdetr": _transformers,
    "resnet18.pth": _backbone,
    "examples": _examples,
    "yolo11n.onnx": _raw_yolo,
    "dfine_l.onnx": _dfine,
    "own.onnx": _own_onnx,
}

FILES: dict[str, tuple[str, ...]] = {
    "README.md": ("DATA", "coco", "annotations.json", "results.json", "gfl_r101_fpn_ms-2x_coco.pth", "runs/baseline"),
    "docs/analysis.md": ("DATA", "runs/teacher", "runs/baseline", "runs/student"),
    "docs/backbones.md": ("resnet18.pth",),
    "docs/cluster.md": ("DATA", "runs/teacher"),
    "docs/comparison.md": ("DATA", "runs/teacher", "runs/teacher_retinanet"),
    "docs/convert.md": ("dataset",),
    "docs/datasets.md": ("DATA", "annotations.json", "results.json", "photos"),
    "docs/distillation.md": ("DATA",),
    "docs/deploy.md": ("DATA", "runs/teacher", "runs/student", "image.png", "photos", "more"),
    "docs/mmdetection.md": ("coco", "gfl_r101_fpn_ms-2x_coco.pth", "weights.pth"),
    "docs/onnx_elsewhere.md": ("runs/student",),
    "docs/own_detector.md": ("data/mine", "examples"),
    "docs/resume.md": ("DATA", "runs/teacher"),
    "docs/teachers_onnx.md": ("coco", "yolo11n.onnx", "dfine_l.onnx", "own.onnx"),
    "docs/teachers_transformers.md": ("DATA", "teachers/rtdetr"),
    "docs/teachers_stored.md": ("DATA", "runs/teacher", "results.json"),
    "docs/torchvision.md": ("fcos_resnet50_fpn_coco-99b0c9b7.pth",),
    "docs/training.md": ("DATA",),
    "docs/unlabelled.md": ("DATA", "DATA/annotations", "runs/teacher", "IMAGES"),
}


def prepare(page: str, folder: Path) -> None:
    """Writes what a page takes for granted."""
    write_recipes(folder)
    for name in FILES.get(page, ()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        WRITERS[name](folder / name)
