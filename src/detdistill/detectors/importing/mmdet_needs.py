"""Which settings an mmdetection checkpoint must have beside its weights, and whether they can be."""

from __future__ import annotations

from collections.abc import Sequence

from docstring_parser import parse

from detdistill.core.errors import DetdistillError, listed
from detdistill.detectors.dense.choices import MmdetHeadName
from detdistill.detectors.importing.mmdet_config import ConfigReading
from detdistill.detectors.importing.mmdet_layers import MmdetLayers
from detdistill.detectors.importing.mmdet_settings import MmdetSettings


def needed_settings(head: MmdetHeadName, layers: MmdetLayers) -> list[str]:
    """The settings that decide something for such a detector."""
    needed = ["head", "mean", "std", "bgr"]
    if layers.bottleneck:
        needed.append("backbone_style")
    if layers.extra_levels and layers.extra_source is None:
        needed.append("extra_source")
    if layers.extra_levels > 1:
        needed.append("extra_relu")
    if layers.towers.norm == "group":
        needed.append("groups")
    if head == "fcos":
        needed += ["normalize_boxes", "centerness_on_box_tower", "center_sampling", "giou"]
    else:
        needed += ["anchor_scales", "anchor_ratios"]
    return [*needed, "score_threshold", "iou_threshold", "candidates_per_level", "max_detections"]


def refuse_unknown(needed: Sequence[str], known: MmdetSettings, likely: MmdetHeadName) -> None:
    """Raises `DetdistillError`, which says what each is and where to find it, if a needed setting is not known.

    Args:
        needed: the settings' names.
        known: what was read and given.
        likely: the detector that the weights suggest.
    """
    unknown = [name for name in needed if getattr(known, name) is None]
    if not unknown:
        return
    texts = {text.arg_name: " ".join((text.description or "").split()) for text in parse(MmdetSettings.__doc__).params}
    asked = [f"{name}: {texts[name]}" for name in unknown]
    looks = f"; by its layers it may be {likely}, but others have the same layers" if "head" in unknown else ""
    raise DetdistillError(
        f"neither its weights nor a configuration in it tell these{looks}; give them, by the same names "
        f"(command line: --{unknown[0].replace('_', '-')} …):{listed(asked)}"
    )


def refuse_impossible(known: MmdetSettings, layers: MmdetLayers, reading: ConfigReading) -> None:
    """Raises `DetdistillError`, which lists them, if there are values that such a detector cannot have."""
    problems = []
    strides = [*layers.strides, *(layers.strides[-1] * 2 ** (level + 1) for level in range(layers.extra_levels))]
    if reading.strides is not None and list(reading.strides) != strides:
        problems.append(f"the head has the strides {list(reading.strides)}, but the weights' pyramid {strides}")
    scales, ratios = known.anchor_scales, known.anchor_ratios
    if known.head != "fcos" and scales is not None and ratios is not None:
        if len(scales) * len(ratios) != layers.anchors or min(*scales, *ratios) <= 0:
            problems.append(
                f"the anchors' scales {scales} and ratios {ratios} do not make the weights' {layers.anchors} per cell"
            )
        elif known.head != "retinanet" and ratios != (1.0,):
            problems.append(f"anchors of the ratio {ratios[0]}; {known.head} has square ones")
    positive = {name: getattr(known, name) for name in ("groups", "candidates_per_level", "max_detections")}
    problems += [f"{name} is {value}" for name, value in positive.items() if value is not None and value < 1]
    shares = {name: getattr(known, name) for name in ("score_threshold", "iou_threshold")}
    problems += [f"{name} is {value}, not 0 to 1" for name, value in shares.items() if not 0 <= value <= 1]
    if known.std is not None and min(known.std) <= 0:
        problems.append(f"std is {known.std}")
    if problems:
        raise DetdistillError(f"these values cannot be:{listed(problems)}")
