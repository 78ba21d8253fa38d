"""mmdetection's configuration, 2.x and 3.x, in our terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from detdistill.core.settings import from_values
from detdistill.detectors.dense.choices import MmdetHeadName
from detdistill.detectors.importing.config_text import Unread
from detdistill.detectors.importing.mmdet_settings import MmdetSettings

HEADS: dict[str, MmdetHeadName] = {
    "RetinaHead": "retinanet",
    "FCOSHead": "fcos",
    "ATSSHead": "atss",
    "GFLHead": "gfl",
    "LDHead": "gfl",
    "GFocalHead": "gflv2",
    "VFNetHead": "vfnet",
}
BOX_LOSSES: dict[MmdetHeadName, str] = {
    "retinanet": "L1Loss",
    "atss": "GIoULoss",
    "gfl": "GIoULoss",
    "gflv2": "GIoULoss",
    "vfnet": "GIoULoss",
}
DELTA_STDS: dict[MmdetHeadName, list[float]] = {"retinanet": [1, 1, 1, 1], "atss": [0.1, 0.1, 0.2, 0.2]}
STUDENTS = ("architecture", "detector", "student")
"""Keys under which the model of mmrazor, or of a semi-supervised pair, has the detector itself."""

MISSING = object()


@dataclass
class ConfigReading:
    """What a configuration says.

    Attributes:
        values: fields of `MmdetSettings`, as far as the configuration tells them.
        defaults: the fields about which it is silent, so that mmdetection's default holds.
        unsupported: what it asks for and detdistill's detectors do not have; the weights are of no use without.
        notes: what differs in training only, or is left out.
        strides: of the head's levels, or None.
        image_size: (short side, long side) in pixels of test images, or None.
    """

    values: dict[str, Any] = field(default_factory=dict)
    defaults: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    strides: tuple[float, ...] | None = None
    image_size: tuple[int, int] | None = None

    def settings(self) -> MmdetSettings:
        """The fields that are known.

        Raises:
            SettingsError: A value is not of its field's type.
        """
        return from_values(MmdetSettings, self.values)


def read_mmdet_config(config: Mapping[str, Any]) -> ConfigReading:
    """Translates a configuration.

    Args:
        config: what `read_config` returned.
    """
    reading = ConfigReading()
    model = section(config, "model", reading, "model")
    inner = next((model[key] for key in STUDENTS if isinstance(model.get(key), dict)), None)
    if inner is not None and "bbox_head" not in model:
        if "bbox_head" not in inner:
            reading.notes.append(
                f"its configuration is that of {type_name(model) or 'a wrapper'}, without the detector's own"
            )
            return reading
        model = {"data_preprocessor": model.get("data_preprocessor")} | inner
    head = section(model, "bbox_head", reading, "model.bbox_head")
    kind, name = type_name(model), type_name(head)
    if name not in HEADS:
        parts = [part for part in ("rpn_head", "roi_head", "mask_head", "query_head") if part in model]
        made_of = f" with the head {name}" if name else f" with {' and '.join(parts)}" if parts else ""
        reading.unsupported.append(f"the detector {kind or 'of no type'}{made_of} (there are: {', '.join(HEADS)})")
        return reading
    reading.values["head"] = HEADS[name]
    read_backbone(section(model, "backbone", reading, "model.backbone"), reading)
    read_neck(section(model, "neck", reading, "model.neck"), reading)
    _read_head(HEADS[name], head, reading)
    _read_postprocessing(config, model, reading)
    read_images(config, model, reading)
    return reading


def type_name(section: Mapping[str, Any]) -> str:
    """The class that a section names, without its module."""
    return str(section.get("type", "")).rpartition(".")[2]


def section(parent: Mapping[str, Any], key: str, reading: ConfigReading, where: str) -> dict[str, Any]:
    """The part of a configuration under a key; empty if there is none, noted if it is no dict."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        reading.unsupported.append(f"{where} is {shown(value)}, not one dict")
        return {}
    return value


def shown(value: Any) -> str:
    """A value in a message."""
    return str(value) if isinstance(value, Unread) else f"a {type(value).__name__}" if _nested(value) else repr(value)


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list | tuple) and any(map(_nested, value)))


def numbers(value: Any) -> TypeGuard[list[float]]:
    """Whether a value is a list of numbers, not empty."""
    return isinstance(value, list | tuple) and bool(value) and all(_number(item) for item in value)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read(reading: ConfigReading, name: str, section: Mapping[str, Any], key: str, default: Any = MISSING) -> None:
    """Takes a plain value over as the field `name`; without a default it stays unknown where the key is missing."""
    value = section.get(key, default)
    if value is MISSING:
        return
    if key not in section:
        reading.defaults.append(name)
    reading.values[name] = value


def require(reading: ConfigReading, section: Mapping[str, Any], where: str, **allowed: Any) -> None:
    """Notes what is set to something else than the only value that detdistill has."""
    for key, only in allowed.items():
        value = section.get(key, only)
        same = list(value) == list(only) if numbers(value) and numbers(only) else value == only
        if not same:
            reading.unsupported.append(f"{where}.{key}={shown(value)}; only {only!r} is supported")


def read_backbone(backbone: Mapping[str, Any], reading: ConfigReading) -> None:
    """Take over what a section says of the backbone."""
    kind = type_name(backbone)
    if kind not in ("ResNet", "ResNeXt"):
        reading.unsupported.append(f"the backbone {kind or 'of no type'}; ResNet and ResNeXt are supported")
        return
    where = "model.backbone"
    if backbone.get("dcn"):
        require(reading, backbone["dcn"], f"{where}.dcn", type="DCNv2", deform_groups=1, fallback_on_stride=False)
    if backbone.get("plugins"):
        reading.unsupported.append("plugins in the backbone (model.backbone.plugins)")
    require(reading, backbone, where, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), conv_cfg=None)
    norm = section(backbone, "norm_cfg", reading, f"{where}.norm_cfg")
    if type_name(norm) not in ("", "BN", "SyncBN"):
        reading.unsupported.append(f"the backbone's normalisation {type_name(norm)}; BN is supported")
    require(reading, norm, f"{where}.norm_cfg", eps=1e-5)
    read(reading, "backbone_style", backbone, "style", "pytorch")


def read_neck(neck: Mapping[str, Any], reading: ConfigReading) -> None:
    """Take over what a section says of the pyramid."""
    if type_name(neck) != "FPN":
        reading.unsupported.append(f"the neck {type_name(neck) or 'of no type'}; FPN is supported")
        return
    require(reading, neck, "model.neck", norm_cfg=None, act_cfg=None, upsample_cfg={"mode": "nearest"})
    extra = neck.get("add_extra_convs", False)
    if extra is True:
        extra = "on_input" if neck.get("extra_convs_on_inputs", True) is True else "on_output"
    if extra in ("on_input", "on_output"):
        reading.values["extra_source"] = extra.removeprefix("on_")
    elif extra is not False:
        reading.unsupported.append(f"model.neck.add_extra_convs={shown(extra)}; on_input and on_output are supported")
    read(reading, "extra_relu", neck, "relu_before_extra_convs", False)


def _read_head(kind: MmdetHeadName, head: Mapping[str, Any], reading: ConfigReading) -> None:
    where = "model.bbox_head"
    require(reading, head, where, conv_cfg=None)
    anchors = section(head, "anchor_generator", reading, f"{where}.anchor_generator")
    strides = head.get("strides", anchors.get("strides"))
    reading.strides = tuple(strides) if numbers(strides) else None
    norm = section(head, "norm_cfg", reading, f"{where}.norm_cfg")
    require(reading, norm, f"{where}.norm_cfg", eps=1e-5)
    read(reading, "groups", norm, "num_groups", 32)
    losses = {key: section(head, key, reading, f"{where}.{key}") for key in ("loss_cls", "loss_bbox")}
    # GFLv2 multiplies two probabilities before its loss, which therefore takes no logits.
    if kind != "gflv2" and losses["loss_cls"].get("use_sigmoid", True) is not True:
        reading.unsupported.append(f"{where}.loss_cls.use_sigmoid=False: class scores by softmax")
    box_loss = type_name(losses["loss_bbox"])
    if kind == "fcos":
        _read_fcos(head, box_loss, reading)
        return
    if box_loss not in ("", BOX_LOSSES[kind]):
        reading.notes.append(f"was trained with {box_loss} on boxes; further training here uses {BOX_LOSSES[kind]}")
    if kind == "vfnet":
        require(reading, head, where, bbox_norm_type="reg_denom", use_atss=True)
    if kind in DELTA_STDS:
        coder = section(head, "bbox_coder", reading, f"{where}.bbox_coder")
        require(reading, coder, f"{where}.bbox_coder", target_means=[0, 0, 0, 0], target_stds=DELTA_STDS[kind])
    _read_anchors(anchors, kind, reading)


def _read_fcos(head: Mapping[str, Any], box_loss: str, reading: ConfigReading) -> None:
    read(reading, "normalize_boxes", head, "norm_on_bbox", False)
    read(reading, "centerness_on_box_tower", head, "centerness_on_reg", False)
    read(reading, "center_sampling", head, "center_sampling", False)
    reading.values["giou"] = box_loss not in ("", "IoULoss")
    if not box_loss:
        reading.defaults.append("giou")
    elif box_loss not in ("IoULoss", "GIoULoss"):
        reading.notes.append(f"was trained with {box_loss} on boxes; further training here uses GIoULoss")


def _read_anchors(generator: Mapping[str, Any], kind: MmdetHeadName, reading: ConfigReading) -> None:
    where = "model.bbox_head.anchor_generator"
    if not generator:
        if kind == "vfnet":
            reading.values |= {"anchor_scales": (8.0,), "anchor_ratios": (1.0,)}
            reading.defaults += ["anchor_scales", "anchor_ratios"]
        return
    if type_name(generator) != "AnchorGenerator":
        reading.unsupported.append(f"anchors by {type_name(generator)}; AnchorGenerator is supported")
    require(reading, generator, where, center_offset=0, base_sizes=None, centers=None)
    octave, per_octave = generator.get("octave_base_scale"), generator.get("scales_per_octave")
    scales = generator.get("scales")
    if scales is None and _number(octave) and isinstance(per_octave, int) and 0 < per_octave <= 100:
        scales = [octave * 2 ** (step / per_octave) for step in range(per_octave)]
    for name, value in (("anchor_scales", scales), ("anchor_ratios", generator.get("ratios"))):
        if numbers(value):
            reading.values[name] = tuple(map(float, value))
        elif value is not None:
            reading.unsupported.append(f"{where}: {name.removeprefix('anchor_')} {shown(value)}, not numbers")


def _read_postprocessing(config: Mapping[str, Any], model: Mapping[str, Any], reading: ConfigReading) -> None:
    # Until 2.7 the test settings stood beside the model.
    test = section(model, "test_cfg", reading, "model.test_cfg") or section(config, "test_cfg", reading, "test_cfg")
    nms = section(test, "nms", reading, "test_cfg.nms")
    read(reading, "score_threshold", test, "score_thr")
    if test.get("nms_pre") != -1:
        read(reading, "candidates_per_level", test, "nms_pre")
    read(reading, "max_detections", test, "max_per_img")
    if isinstance(nms.get("class_agnostic"), bool):
        read(reading, "class_agnostic", nms, "class_agnostic")
    if type_name(nms) in ("", "nms"):
        read(reading, "iou_threshold", nms, "iou_threshold" if "iou_threshold" in nms else "iou_thr")
    else:
        reading.notes.append(f"was tested with {type_name(nms)}; detdistill has plain NMS, say at which iou_threshold")
    if test.get("min_bbox_size", 0) not in (0, -1):
        reading.notes.append(f"min_bbox_size={shown(test['min_bbox_size'])} is left out: smaller boxes are kept")


def read_images(config: Mapping[str, Any], model: Mapping[str, Any], reading: ConfigReading) -> None:
    """Take over how images are normalised and resized."""
    preprocessor = model.get("data_preprocessor") or config.get("data_preprocessor")
    steps = list(_steps(config))
    normalize = next((step for step in steps if type_name(step) == "Normalize"), None)
    if isinstance(preprocessor, dict):
        to_rgb, source = preprocessor.get("bgr_to_rgb", False), preprocessor
        require(reading, preprocessor, "model.data_preprocessor", rgb_to_bgr=False)
    else:
        source = normalize or section(config, "img_norm_cfg", reading, "img_norm_cfg")
        to_rgb = source.get("to_rgb", True)
    read(reading, "mean", source, "mean")
    read(reading, "std", source, "std")
    if isinstance(to_rgb, bool) and "mean" in source:
        reading.values["bgr"] = not to_rgb
    for step in steps:
        size = step.get("scale") if type_name(step) == "Resize" else step.get("img_scale")
        if numbers(size) and len(size) == 2 and step.get("keep_ratio", True) is True:
            reading.image_size = (int(min(size)), int(max(size)))
            break


def _steps(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps by which test images are prepared, the outer ones first."""
    pipelines = [config.get("test_pipeline")]
    for outer, inner in (
        ("data", "test"),
        ("test_dataloader", "dataset"),
        ("data", "val"),
        ("val_dataloader", "dataset"),
    ):
        section = config.get(outer)
        part = section.get(inner) if isinstance(section, dict) else None
        pipelines.append(part.get("pipeline") if isinstance(part, dict) else None)
    for pipeline in pipelines:
        for step in pipeline if isinstance(pipeline, list | tuple) else ():
            if isinstance(step, dict):
                yield step
                inner_steps = step.get("transforms")
                yield from (inner for inner in inner_steps or () if isinstance(inner, dict))
