"""EfficientDets by effdet's names, made of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detdistill.core.output import Output
from detdistill.detectors.dense.architecture import Architecture, BiFeaturePyramid, Towers
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.importing.effdet import YX_TO_XY
from detdistill.detectors.importing.effdet_keys import effdet_name

CLASSES = ("cell", "platelet", "other", "artefact", "dust")


def narrow(classes: tuple[str, ...] = CLASSES, *, anchor_scale: float = 4.0, **pyramid: Any) -> DenseDetector:
    """A small EfficientDet, from effdet's point of view: BiFPN, separable towers."""
    settings = {"channels": 16, "repeats": 2} | pyramid
    architecture = Architecture(
        kind="efficientdet",
        backbone="lcnet_035",
        pyramid=BiFeaturePyramid(kind="bifpn", **settings),
        towers=Towers(depth=2, norm="level_batch", bias=bool(settings.get("bias")), separable=True, activation="silu"),
        options={"anchor_scale": anchor_scale},
    )
    return DenseDetector(architecture, classes).eval()


def effdet_state(detector: DenseDetector, *, level_first: bool = False) -> dict[str, Tensor]:
    """A detector's tensors as effdet has them."""
    levels = len(detector.pyramid.strides)
    own = detector.state_dict()
    for name in ("weight", "bias"):
        key = f"head.box_predictor.{name}"
        own[key] = own[key].reshape(-1, 4, *own[key].shape[1:])[:, YX_TO_XY].flatten(0, 1)
    return {effdet_name(name, 3, levels, level_first=level_first): tensor for name, tensor in own.items()}


def saved(folder: Path, state: Mapping[str, Any]) -> Path:
    file = folder / "efficientdet.pth"
    torch.save(dict(state), file)
    return file


def in_yx(flat: Tensor) -> Tensor:
    """Boxes or deltas with x and y exchanged."""
    return flat[..., YX_TO_XY]


def maps_of(output: Output) -> dict[str, tuple[Tensor, ...]]:
    """The maps of an output as effdet's networks give them."""
    predictions = output.predictions
    return {
        "feature": output.features.maps,
        "class_out": predictions.grid.unflatten(predictions.logits),
        "box_out": predictions.grid.unflatten(in_yx(predictions.regression)),
    }
