"""EfficientDets of effdet (rwightman's efficientdet-pytorch), from their checkpoints and without effdet."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from docstring_parser import parse
from torch import Tensor

from detdistill.core.errors import DetdistillError, listed
from detdistill.core.files import open_regular
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.normalization import Normalization
from detdistill.detectors.dense.architecture import Architecture, BiFeaturePyramid, Towers
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.dense.efficientdet_scaling import SCALINGS
from detdistill.detectors.importing.effdet_keys import effdet_name
from detdistill.detectors.importing.effdet_layers import EffdetLayers, known_backbone, read_effdet_layers
from detdistill.detectors.importing.effdet_settings import EffdetSettings
from detdistill.detectors.importing.findings import Finding, Source
from detdistill.detectors.importing.misfits import COUNTER, refuse_misfits
from detdistill.detectors.importing.named_classes import named_classes
from detdistill.detectors.importing.torchvision_weights import COCO_CATEGORIES
from detdistill.detectors.importing.weights_file import read_weights

NOTHING_KNOWN = EffdetSettings()
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
LITE_MEAN = LITE_STD = (127.5, 127.5, 127.5)
NEEDED = ("backbone", "anchor_scale", "activation", "mean", "std")
BACKBONE_LEVELS = 3
EMPTY = "N/A"
COCO_COLUMNS = COCO_CATEGORIES[1:]
"""Of effdet's published weights: COCO's category ids from 1 to 90, with gaps."""
YX_TO_XY = (1, 0, 3, 2)
"""Rows of ty, tx, th, tw in the order of dx, dy, dw, dh."""


@dataclass(frozen=True, eq=False)
class EffdetImport:
    """An imported detector, and how it was understood.

    Attributes:
        detector: In evaluation mode, on the CPU, in float32.
        findings: Everything that was decided, with its source.
        notes: Which weights were taken.
        image_size: Of the preset or as given, or None.
        provenance: What to remember of the file, of JSON types.
    """

    detector: DenseDetector
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    image_size: ImageSize | None
    provenance: dict[str, str]


def import_effdet(
    path: Path,
    *,
    settings: EffdetSettings = NOTHING_KNOWN,
    classes: Sequence[str] | None = None,
    number_classes: bool = False,
) -> EffdetImport:
    """Imports an EfficientDet with a BiFPN and separable convolutions.

    Layers are read off the weights. What weights cannot tell must be given; nothing is guessed. Detections are read off
    as effdet does by default.

    Args:
        path: a published checkpoint, one of a training run, or a bare state dict; `.pth` or `.safetensors`. Prefixes of
            wrappers are removed, see `network_names`.
        settings: what the weights do not tell.
        classes: class names, one for each column; columns named `N/A` are dropped. None for COCO's 90 columns, of
            which 80 stand for a class, where the weights have as many.
        number_classes: call the classes `class_0`, `class_1`, … if no names are given.

    Raises:
        DetdistillError: the file cannot be opened safely; the detector is not supported; something is not known, or
            does not go with the weights; keys are missing or unexpected, or shapes do not fit.
    """
    weights = read_weights(path)
    try:
        layers = read_effdet_layers(weights.state)
        known = _known(settings, layers, weights.state)
        columns, names_source = _columns(weights.meta, layers.num_classes, classes, number_classes)
        detector = _load(known, layers, columns, weights.state)
        image_size = None if known.side is None else ImageSize(letterbox=known.side)
    except DetdistillError as error:
        raise DetdistillError(f"{path} cannot be imported: {error}") from error
    return EffdetImport(
        detector=detector,
        findings=(
            *_layer_findings(layers),
            Finding("classes", ", ".join(detector.classes), names_source),
            *_setting_findings(known, settings),
        ),
        notes=weights.notes,
        image_size=image_size,
        provenance=_provenance(path),
    )


def _known(given: EffdetSettings, layers: EffdetLayers, state: Mapping[str, Tensor]) -> EffdetSettings:
    """What is given, completed from its preset and the weights.

    Raises:
        DetdistillError: something is still unknown, or the preset has other layers than the weights.
    """
    values = {
        "backbone": given.backbone or known_backbone(state, given.preset, bias=layers.bias),
        "padding": "same" if layers.bias else "symmetric",
        **_of_preset(given, layers),
        **{name: value for name, value in vars(given).items() if value is not None},
    }
    unknown = [name for name in NEEDED if values.get(name) is None]
    if unknown:
        texts = {text.arg_name: " ".join((text.description or "").split()) for text in parse(_doc()).params}
        asked = ["preset", *unknown] if given.preset is None else unknown
        raise DetdistillError(
            "its weights do not tell these; give the preset, or each of the others, by the same names (command line: "
            f"--effdet.{asked[0].replace('_', '-')} …):{listed([f'{name}: {texts[name]}' for name in asked])}"
        )
    return EffdetSettings(**values)


def _doc() -> str:
    return EffdetSettings.__doc__ or ""


def _of_preset(given: EffdetSettings, layers: EffdetLayers) -> dict[str, object]:
    if given.preset is None:
        return {}
    scaling = SCALINGS[given.preset]
    differing = [
        f"{name} {own}, the preset {theirs}"
        for name, own, theirs in (
            ("channels", layers.channels, scaling.channels),
            ("cells of the pyramid", layers.repeats, scaling.repeats),
            ("fusion", layers.fusion, scaling.fusion),
            ("extra levels", layers.extra_levels, scaling.extra_levels),
            ("convolutions of the head", layers.depth, scaling.depth),
        )
        if own != theirs
    ]
    if differing:
        raise DetdistillError(
            f"its weights are not of the preset {given.preset}; they have{listed(differing)}\ngive another preset, or "
            f"none and each of {', '.join(NEEDED)}"
        )
    return {
        "anchor_scale": scaling.anchor_scale,
        "activation": "relu6" if scaling.mobile else "silu",
        "mean": LITE_MEAN if scaling.mobile else IMAGENET_MEAN,
        "std": LITE_STD if scaling.mobile else IMAGENET_STD,
        "side": scaling.side,
    }


def _columns(
    meta: Mapping[Any, Any], count: int, given: Sequence[str] | None, numbered: bool
) -> tuple[tuple[str, ...], Source]:
    """The name of each of the class predictor's columns, `N/A` of those that stand for nothing."""
    if given is not None and len(given) == count:
        named_classes(meta, count - list(given).count(EMPTY), [name for name in given if name != EMPTY], numbered=False)
        return tuple(given), "given"
    if given is None and not numbered and not meta and count == len(COCO_COLUMNS):
        return COCO_COLUMNS, "effdet's default"
    return named_classes(meta, count, given, numbered=numbered)


def _load(
    known: EffdetSettings, layers: EffdetLayers, columns: tuple[str, ...], state: Mapping[str, Tensor]
) -> DenseDetector:
    assert known.backbone is not None
    assert known.anchor_scale is not None
    assert known.activation is not None
    assert known.padding is not None
    assert known.mean is not None
    assert known.std is not None
    architecture = Architecture(
        kind="efficientdet",
        backbone=known.backbone,
        pyramid=BiFeaturePyramid(
            kind="bifpn",
            channels=layers.channels,
            extra_levels=layers.extra_levels,
            repeats=layers.repeats,
            fusion=layers.fusion,
            activation=known.activation,
            padding=known.padding,
            bias=layers.bias,
        ),
        towers=Towers(
            depth=layers.depth, norm="level_batch", bias=layers.bias, separable=True, activation=known.activation
        ),
        options={"anchor_scale": known.anchor_scale},
    )
    spec = InputSpec(Normalization(known.mean, known.std))
    kept = [column for column, name in enumerate(columns) if name != EMPTY]
    classes = [columns[column] for column in kept]
    state = {**state, **_class_rows(state, kept, len(columns))}
    # On the meta device nothing is allocated: shapes that do not fit cannot ask for more memory than the file has.
    with torch.device("meta"):
        wanted = DenseDetector(architecture, classes, input=spec).state_dict()
    levels = BACKBONE_LEVELS + layers.extra_levels
    names = {
        name: effdet_name(name, BACKBONE_LEVELS, levels, level_first=layers.level_first)
        for name in wanted
        if not name.endswith(COUNTER)
    }
    refuse_misfits(names, wanted, state)
    with torch.random.fork_rng(devices=[]):
        detector = DenseDetector(architecture, classes, input=spec)
    tensors = {name: state[theirs].float() for name, theirs in names.items()}
    for name in ("weight", "bias"):
        rows = tensors[f"head.box_predictor.{name}"]
        tensors[f"head.box_predictor.{name}"] = rows.reshape(-1, 4, *rows.shape[1:])[:, YX_TO_XY].flatten(0, 1)
    detector.load_state_dict(tensors, strict=False)
    return detector.eval()


def _class_rows(state: Mapping[str, Tensor], kept: Sequence[int], columns: int) -> dict[str, Tensor]:
    """The class predictor's tensors with some of its columns; its channel is anchor * columns + column."""
    names = [f"class_net.predict.conv_pw.{part}" for part in ("weight", "bias")]
    found = {name: state[name] for name in names if name in state and len(state[name]) % columns == 0}
    return {
        name: tensor.reshape(-1, columns, *tensor.shape[1:])[:, kept].flatten(0, 1) for name, tensor in found.items()
    }


def _layer_findings(layers: EffdetLayers) -> list[Finding]:
    padding = ", with TensorFlow's biases" if layers.bias else ""
    return [
        Finding(
            "pyramid",
            f"BiFPN, {layers.channels} channels, {layers.repeats} cells, {layers.fusion} fusion, "
            f"{layers.extra_levels} extra levels{padding}",
            "weights",
        ),
        Finding("towers", f"{layers.depth} separable convolutions, batch norms for each level", "weights"),
        Finding("number of classes", str(layers.num_classes), "weights"),
    ]


def _setting_findings(known: EffdetSettings, given: EffdetSettings) -> list[Finding]:
    findings = []
    for each in fields(EffdetSettings):
        value = getattr(known, each.name)
        source: Source = "given" if getattr(given, each.name) is not None else "preset"
        if source != "given" and each.name in ("backbone", "padding"):
            source = "weights"
        if value is not None:
            findings.append(Finding(each.name, str(value), source))
    return findings


def _provenance(path: Path) -> dict[str, str]:
    with open_regular(path) as file:
        return {"imported_from": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
