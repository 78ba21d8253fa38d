"""A checkpoint of mmdetection, torchvision or effdet into a run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from detdistill.core.errors import DetdistillError
from detdistill.core.files import check_new, open_regular
from detdistill.core.image_options import ImageSize
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.choices import RcnnName
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.importing.effdet import NOTHING_KNOWN, import_effdet
from detdistill.detectors.importing.effdet_layers import is_effdet
from detdistill.detectors.importing.effdet_settings import EffdetSettings
from detdistill.detectors.importing.findings import Finding
from detdistill.detectors.importing.mmdet import NOTHING_GIVEN, import_mmdet
from detdistill.detectors.importing.mmdet_keys import is_torchvision
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from detdistill.detectors.importing.torchvision_rcnn_weights import import_torchvision_rcnn, is_torchvision_rcnn
from detdistill.detectors.importing.torchvision_weights import import_torchvision
from detdistill.detectors.importing.weights_file import ForeignWeights, read_weights
from detdistill.detectors.saving import save_detector
from detdistill.detectors.two_stage.torchvision_rcnn import TorchvisionRcnn

TORCHVISION_SIZE = ImageSize(800, 1333)
"""Shorter and largest longer side in pixels, to which torchvision's detectors resize by default."""
SMALL_SIZE = ImageSize(320, 640)
"""The same of `fasterrcnn_mobilenet_v3_large_320_fpn`."""


@dataclass(frozen=True, eq=False)
class Imported:
    """An imported detector, and how it was understood.

    Attributes:
        detector: In evaluation mode, on the CPU, in float32.
        name: The kind of detector, such as `gfl`, or torchvision's name of the network.
        findings: Everything that was decided, with its source.
        notes: Which weights were taken, what differs in training, or was left out.
        image_size: Size of the images that it was made for; None if that is not known.
        provenance: What to remember of the file, of JSON types.
    """

    detector: Detector
    name: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    image_size: ImageSize | None
    provenance: dict[str, Any]


def import_checkpoint(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    settings: MmdetSettings = NOTHING_GIVEN,
    classes: Sequence[str] | None = None,
    number_classes: bool = False,
    frozen_norm_eps: float | None = None,
    network: RcnnName | None = None,
    effdet: EffdetSettings = NOTHING_KNOWN,
) -> Imported:
    """Import a checkpoint of mmdetection, torchvision or effdet, whichever it is, into a new run folder.

    Args:
        path: Checkpoint, `.pth` or `.safetensors`, see `import_mmdet`, `import_torchvision` and `import_effdet`.
        out: Folder to write; it must not exist.
        settings: mmdetection only: what the checkpoint's configuration does not tell; it also counts more than the
            configuration.
        classes: Class names, instead of those in the file.
        number_classes: Name the classes `class_0`, `class_1`, … if the file has no names, or another number of them.
        frozen_norm_eps: torchvision only: epsilon of frozen batch norms, see `import_torchvision`.
        network: torchvision's two-stage detectors only: its name of the model, see `import_torchvision_rcnn`.
        effdet: effdet only: what the weights do not tell.

    Returns:
        The detector, and how it was understood.

    Raises:
        DetdistillError: `out` exists or cannot be written; the file cannot be opened safely; the detector is not
            supported; something is not known; or an option belongs to another library.
    """
    path, out = Path(path), Path(out)
    check_new(out)
    weights = read_weights(path)
    two_stage = is_torchvision_rcnn(weights.state)
    if network is not None and not two_stage:
        raise DetdistillError(f"{path} is none of torchvision's two-stage detectors: leave --network out")
    if is_effdet(weights.state):
        if settings != NOTHING_GIVEN or frozen_norm_eps is not None:
            raise DetdistillError(
                f"{path} is of effdet: leave out the options of mmdetection and torchvision; those of effdet are "
                "--effdet.…, see `detdistill import --help`"
            )
        imported = _of_effdet(path, effdet, classes, number_classes)
    elif effdet != NOTHING_KNOWN:
        raise DetdistillError(f"{path} is none of effdet's detectors: leave the options --effdet.… out")
    elif two_stage or is_torchvision(weights.state):
        if settings != NOTHING_GIVEN:
            raise DetdistillError(
                f"{path} is of torchvision, which fixes all settings: leave out all options but --out, --classes, "
                "--number-classes, --frozen-norm-eps and --network"
            )
        detector: TorchvisionDetector | TorchvisionRcnn
        if two_stage:
            detector = import_torchvision_rcnn(
                path, classes, network=network, frozen_norm_eps=frozen_norm_eps, number_classes=number_classes
            )
        else:
            detector = import_torchvision(path, classes, frozen_norm_eps=frozen_norm_eps, number_classes=number_classes)
        imported = _of_torchvision(path, weights, detector, is_named=classes is not None or number_classes)
    else:
        if frozen_norm_eps is not None:
            raise DetdistillError(f"{path} is none of torchvision's detectors: leave --frozen-norm-eps out")
        imported = _of_mmdet(path, settings, classes, number_classes)
    save_detector(imported.detector, out, image_size=imported.image_size, provenance=imported.provenance)
    return imported


def _of_mmdet(path: Path, settings: MmdetSettings, classes: Sequence[str] | None, number_classes: bool) -> Imported:
    found = import_mmdet(path, settings=settings, classes=classes, number_classes=number_classes)
    kind = found.detector.architecture.kind
    return Imported(found.detector, kind, found.findings, found.notes, found.image_size, found.provenance)


def _of_effdet(path: Path, settings: EffdetSettings, classes: Sequence[str] | None, number_classes: bool) -> Imported:
    found = import_effdet(path, settings=settings, classes=classes, number_classes=number_classes)
    return Imported(
        found.detector, "efficientdet", found.findings, found.notes, found.image_size, dict(found.provenance)
    )


def _of_torchvision(
    path: Path, weights: ForeignWeights, detector: TorchvisionDetector | TorchvisionRcnn, *, is_named: bool
) -> Imported:
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = detector.architecture.name
    findings = (
        Finding("network", name, "weights"),
        # torchvision's weights hold no names; its own models have COCO's.
        Finding("classes", ", ".join(detector.classes), "given" if is_named else "torchvision's default"),
    )
    provenance = {"imported_from": path.name, "sha256": digest}
    size = SMALL_SIZE if name.endswith("320_fpn") else TORCHVISION_SIZE
    return Imported(detector, name, findings, weights.notes, size, provenance)
