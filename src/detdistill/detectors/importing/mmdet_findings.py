"""What an import found out about a checkpoint of mmdetection, and where from."""

from __future__ import annotations

from detdistill.detectors.importing.findings import Finding
from detdistill.detectors.importing.mmdet_config import ConfigReading
from detdistill.detectors.importing.mmdet_layers import MmdetLayers
from detdistill.detectors.importing.mmdet_settings import MmdetSettings


def layer_findings(layers: MmdetLayers) -> list[Finding]:
    """What was read off the weights."""
    towers = layers.towers
    extra = f" and {layers.extra_levels} extra levels" if layers.extra_levels else ""
    source = ", from the backbone's last map" if layers.extra_source == "input" else ""
    kinds = [f"{towers.norm} normalisation" if towers.norm != "none" else "no normalisation"]
    kinds += ["with bias"] * towers.bias + ["the last one deformable"] * towers.deformable
    backbone = [layers.backbone]
    backbone += [f"channels {layers.backbone_channels}"] if layers.backbone_channels else []
    backbone += [f"deformable in stages {layers.deformable}"] if layers.deformable else []
    bins = [] if layers.reg_max is None else [Finding("bins per side", str(layers.reg_max + 1), "weights")]
    return [
        Finding("backbone", ", ".join(backbone), "weights"),
        Finding("pyramid", f"{layers.channels} channels, strides {layers.strides}{extra}{source}", "weights"),
        Finding("towers", f"{towers.depth} convolutions, {', '.join(kinds)}", "weights"),
        *bins,
        Finding("number of classes", str(layers.num_classes), "weights"),
    ]


def setting_finding(name: str, known: MmdetSettings, given: MmdetSettings, reading: ConfigReading) -> Finding:
    """One setting and where it comes from.

    Args:
        name: of the field.
        known: all settings.
        given: what the caller said.
        reading: what the configuration says.
    """
    value = str(getattr(known, name))
    if getattr(given, name) is None:
        return Finding(name, value, "mmdetection's default" if name in reading.defaults else "config")
    read = reading.values.get(name)
    differs = f" (the config says {read})" if read is not None and read != getattr(known, name) else ""
    return Finding(name, value + differs, "given")
