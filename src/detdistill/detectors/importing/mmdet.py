"""Detectors that mmdetection 2.x and 3.x trained, from their checkpoints and without mmdetection."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detdistill.core.errors import LISTED, DetdistillError, listed
from detdistill.core.files import open_regular
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.normalization import Normalization
from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid
from detdistill.detectors.dense.choices import MmdetHeadName
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.importing.config_text import read_config
from detdistill.detectors.importing.findings import Finding
from detdistill.detectors.importing.misfits import COUNTER, refuse_misfits
from detdistill.detectors.importing.mmdet_config import ConfigReading, read_mmdet_config
from detdistill.detectors.importing.mmdet_findings import layer_findings, setting_finding
from detdistill.detectors.importing.mmdet_keys import (
    BIN_VALUES,
    is_own,
    is_torchvision,
    likely_head,
    mmdet_name,
    newest_names,
    other_detector,
)
from detdistill.detectors.importing.mmdet_layers import MmdetLayers, read_layers
from detdistill.detectors.importing.mmdet_needs import needed_settings, refuse_impossible, refuse_unknown
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from detdistill.detectors.importing.mmdet_two_stage import (
    is_two_stage,
    load_two_stage,
    refuse_unsupported,
    two_stage_architecture,
)
from detdistill.detectors.importing.mmdet_two_stage_config import read_two_stage_config
from detdistill.detectors.importing.named_classes import named_classes
from detdistill.detectors.importing.weights_file import ForeignWeights, read_weights
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.two_stage.two_stage_detector import TwoStageDetector

NOTHING_GIVEN = MmdetSettings()


@dataclass(frozen=True, eq=False)
class MmdetImport:
    """An imported detector, and how it was understood.

    Attributes:
        detector: in evaluation mode, on the CPU, in float32.
        findings: everything that was decided, with its source.
        notes: what differs from mmdetection in training, or was left out.
        image_size: of the configuration's test images, or None.
        provenance: what to remember of the file, of JSON types.
    """

    detector: DenseDetector | TwoStageDetector
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    image_size: ImageSize | None
    provenance: dict[str, str | int]


def import_mmdet(
    path: Path,
    *,
    settings: MmdetSettings = NOTHING_GIVEN,
    classes: Sequence[str] | None = None,
    number_classes: bool = False,
) -> MmdetImport:
    """Imports RetinaNet, FCOS, ATSS, GFL, GFLv2, VFNet, Faster or Cascade R-CNN on a ResNet or ResNeXt.

    Layers are read off the weights. What weights cannot tell is read from the configuration that mmdetection keeps in
    the checkpoint; where there is none it must be given. Nothing is guessed.

    Args:
        path: a published checkpoint, one of a training run, or a bare state dict; `.pth` or `.safetensors`. Prefixes of
            wrappers are removed, see `network_names`.
        settings: what the configuration does not tell; it is also taken instead of what the configuration tells.
        classes: class names, instead of those in the checkpoint.
        number_classes: call the classes `class_0`, `class_1`, … unless the checkpoint has as many names.

    Raises:
        DetdistillError: the file cannot be opened safely; the detector is not supported; something is not known; keys
            are missing or unexpected, or shapes do not fit. All that is wrong is listed.
    """
    weights = read_weights(path)
    state, meta = newest_names(weights.state), weights.meta
    try:
        if is_two_stage(state):
            return _two_stage(path, weights, settings, classes, number_classes)
        reading = _read_config(meta)
        likely = _recognised(state, meta, reading)
        known = _merged(settings, reading.settings())
        layers = read_layers(state, known.head or likely)
        needed = needed_settings(known.head or likely, layers)
        refuse_unknown(needed, known, likely)
        refuse_impossible(known, layers, reading)
        names, names_source = named_classes(meta, layers.num_classes, classes, numbered=number_classes)
        detector = _load(_architecture(known, layers), names, known, state)
    except DetdistillError as error:
        raise DetdistillError(f"{path} cannot be imported: {error}") from error
    bins = state.get(BIN_VALUES)
    if bins is not None and not torch.equal(bins.flatten().float(), torch.arange(float(bins.numel()))):
        reading.notes.append(f"{BIN_VALUES} is not 0, 1, 2, …: boxes are decoded with 0, 1, 2, … all the same")
    return MmdetImport(
        detector=detector,
        findings=(
            *layer_findings(layers),
            Finding("classes", ", ".join(names), names_source),
            *(setting_finding(name, known, settings, reading) for name in needed),
        ),
        notes=(*weights.notes, *reading.notes),
        image_size=ImageSize(*reading.image_size) if reading.image_size else None,
        provenance=_provenance(path, meta),
    )


def _two_stage(
    path: Path, weights: ForeignWeights, settings: MmdetSettings, classes: Sequence[str] | None, number_classes: bool
) -> MmdetImport:
    state, meta = newest_names(weights.state), weights.meta
    _refuse_first_version(meta)
    text = meta.get("cfg", meta.get("config"))
    if not isinstance(text, str):
        raise DetdistillError(
            "its weights are of a two-stage detector, and without the configuration that mmdetection keeps in a "
            "checkpoint (meta.cfg) nobody can tell how it reads regions, nor its thresholds; give the checkpoint as "
            "mmdetection saved it"
        )
    given = [name for name, value in vars(settings).items() if value is not None]
    if given:
        raise DetdistillError(
            f"{', '.join(given)}: a two-stage detector's settings are those of its configuration; leave them out"
        )
    reading = read_two_stage_config(read_config(text))
    refuse_unsupported(reading)
    architecture, count = two_stage_architecture(state, reading)
    names, source = named_classes(meta, count, classes, numbered=number_classes)
    known = reading.common.settings()
    if known.mean is None or known.std is None:
        raise DetdistillError("its configuration tells no mean and std of the pixels (model.data_preprocessor)")
    detector = load_two_stage(architecture, names, _normalization(known), reading, state)
    size = reading.common.image_size
    return MmdetImport(
        detector=detector,
        findings=(
            Finding("kind", architecture.kind, "config"),
            Finding("backbone", architecture.backbone, "weights"),
            Finding("classes", ", ".join(names), source),
        ),
        notes=(*weights.notes, *reading.common.notes),
        image_size=ImageSize(*size) if size else None,
        provenance=_provenance(path, meta),
    )


def _read_config(meta: Mapping[Any, Any]) -> ConfigReading:
    text = meta.get("cfg", meta.get("config"))
    return read_mmdet_config(read_config(text)) if isinstance(text, str) else ConfigReading()


def _refuse_first_version(meta: Mapping[Any, Any]) -> None:
    version = str(meta.get("mmdet_version", ""))
    if version.startswith(("0.", "1.")):
        raise DetdistillError(
            f"it is of mmdetection {version}, which laid boxes and classes out differently: convert it with "
            "mmdetection's tools/model_converters/upgrade_model_version.py first"
        )


def _recognised(state: Mapping[str, Tensor], meta: Mapping[Any, Any], reading: ConfigReading) -> MmdetHeadName:
    """The kind of detector that the weights suggest, unless something shows that it is another one."""
    _refuse_first_version(meta)
    if is_torchvision(state):
        raise DetdistillError(
            "its weights are those of torchvision's RetinaNet or FCOS, not of mmdetection's: use "
            "import_torchvision, or `detdistill import`, which takes both"
        )
    if is_own(state):
        raise DetdistillError(
            "its weights are those of a detdistill detector, which needs no import: pass the folder of its run, which "
            "holds model.json, to any command"
        )
    other = other_detector(state)
    unsupported = [*reading.unsupported, *([f"weights of {other}"] if other else [])]
    if unsupported:
        raise DetdistillError(f"detdistill's detectors do not have{listed(unsupported)}")
    likely = likely_head(state)
    if likely is None:
        raise DetdistillError(
            "its weights are of none of RetinaNet, FCOS, ATSS, GFL, GFLv2 and VFNet of mmdetection, and not of "
            f"torchvision's RetinaNet or FCOS; their names start with {', '.join(_starts(state)[:LISTED])}"
        )
    return likely


def _starts(state: Mapping[str, Tensor]) -> list[str]:
    """The first two parts of each name, once each."""
    return list(dict.fromkeys(".".join(key.split(".")[:2]) for key in state))


def _merged(given: MmdetSettings, read: MmdetSettings) -> MmdetSettings:
    return replace(read, **{name: value for name, value in vars(given).items() if value is not None})


def _architecture(known: MmdetSettings, layers: MmdetLayers) -> Architecture:
    assert known.head is not None
    options: dict[str, Any] = {}
    if known.head == "fcos":
        names = ("normalize_boxes", "centerness_on_box_tower", "center_sampling", "giou")
        options = {name: getattr(known, name) for name in names}
    elif known.head == "retinanet":
        options = {"anchor_scales": known.anchor_scales, "anchor_ratios": known.anchor_ratios}
    elif known.anchor_scales is not None:
        options = {"anchor_scale": known.anchor_scales[0]}
    if layers.reg_max is not None:
        options["reg_max"] = layers.reg_max
    return Architecture(
        kind=known.head,
        backbone=layers.backbone,
        backbone_channels=layers.backbone_channels,
        backbone_style=known.backbone_style if layers.bottleneck and known.backbone_style else "pytorch",
        backbone_deformable=layers.deformable,
        strides=layers.strides,
        pyramid=FeaturePyramid(
            channels=layers.channels,
            extra_levels=layers.extra_levels,
            extra_source=layers.extra_source or known.extra_source or "output",
            extra_relu=bool(known.extra_relu),
        ),
        towers=replace(layers.towers, groups=known.groups if layers.towers.norm == "group" else None),
        options=options,
    )


def _normalization(known: MmdetSettings) -> Normalization:
    assert known.mean is not None
    assert known.std is not None
    if not known.bgr:
        return Normalization(known.mean, known.std)
    blue, green, red = zip(known.mean, known.std, strict=True)
    mean, std = zip(red, green, blue, strict=True)
    return Normalization(mean, std, bgr=True)


def _load(
    architecture: Architecture, classes: tuple[str, ...], known: MmdetSettings, state: Mapping[str, Tensor]
) -> DenseDetector:
    spec = InputSpec(_normalization(known))
    # On the meta device nothing is allocated: shapes that do not fit cannot ask for more memory than the file has.
    with torch.device("meta"):
        wanted = DenseDetector(architecture, classes, input=spec).state_dict()
    assert known.head is not None
    norm = "bn" if architecture.towers is not None and architecture.towers.norm == "batch" else "gn"
    names = {
        name: mmdet_name(name, known.head, norm, len(architecture.strides))
        for name in wanted
        if not name.endswith(COUNTER)
    }
    refuse_misfits(names, wanted, state, unread=(BIN_VALUES,))
    with torch.random.fork_rng(devices=[]):
        detector = DenseDetector(architecture, classes, input=spec)
    # Counters of batches say nothing about the weights, and old files lack them.
    detector.load_state_dict({name: state[theirs].float() for name, theirs in names.items()}, strict=False)
    detector.postprocessing = PostProcessing(
        **{
            field.name: value
            for field in dataclasses.fields(PostProcessing)
            if (value := vars(known).get(field.name)) is not None
        }
    )
    return detector.eval()


def _provenance(path: Path, meta: Mapping[Any, Any]) -> dict[str, str | int]:
    with open_regular(path) as file:
        found: dict[str, str | int] = {
            "imported_from": path.name,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
    for key in ("mmdet_version", "epoch", "iter"):
        if isinstance(meta.get(key), str | int):
            found[key] = meta[key]
    return found
