"""effdet's names of parameters and buffers, in ours."""

from __future__ import annotations

import re

NETS = {"class_": "class_net", "box_": "box_net"}


def effdet_name(name: str, backbone_levels: int, levels: int, *, level_first: bool) -> str:
    """The name of a parameter or buffer in effdet.

    Args:
        name: in a `DenseDetector` of the kind `efficientdet` with a BiFPN.
        backbone_levels: that the pyramid takes.
        levels: of the pyramid.
        level_first: the head's batch norms are listed level by level.
    """
    part, _, rest = name.replace(".depthwise.", ".conv_dw.").replace(".pointwise.", ".conv_pw.").partition(".")
    if part == "backbone":
        return "backbone." + rest.removeprefix("network.")
    if part == "pyramid":
        return "fpn." + _in_pyramid(rest, backbone_levels, levels)
    return _in_head(rest, level_first=level_first)


def _in_pyramid(name: str, backbone_levels: int, levels: int) -> str:
    if name.startswith("coarsest."):
        return f"resample.{backbone_levels}.conv." + name.removeprefix("coarsest.").replace("norm.", "bn.")
    match = re.match(r"cells\.(\d+)\.(down|up)\.(\d+)\.(.*)", name)
    assert match is not None
    cell, way, number, rest = match[1], match[2], int(match[3]), match[4]
    # effdet counts the nodes of both ways together; inputs are numbered, the cell's own first.
    node, level = (number, levels - 2 - number) if way == "down" else (levels - 1 + number, number + 1)
    rest = re.sub(r"^weights$", "combine.edge_weights", rest)
    rest = re.sub(r"^conv\.", "after_combine.conv.", rest)
    rest = re.sub(r"^norm\.", "after_combine.conv.bn.", rest)
    # A node's second input has a convolution only in a pyramid without extra levels, where it is the coarsest map.
    projection = re.match(r"projections\.(\d)\.(conv|norm)\.(.*)", rest)
    if projection is not None:
        source = level if projection[1] == "0" else levels - 1
        layer = "bn" if projection[2] == "norm" else "conv"
        rest = f"combine.resample.{source}.conv.{layer}.{projection[3]}"
    return f"cell.{cell}.fnode.{node}.{rest}"


def _in_head(name: str, *, level_first: bool) -> str:
    part = next(part for part in NETS if name.startswith(part))
    rest = re.sub(r"^predictor\.", "predict.conv_pw.", name.removeprefix(part))
    rest = re.sub(r"^depthwise\.", "predict.conv_dw.", rest)
    rest = re.sub(r"^tower\.(\d+)\.conv\.", r"conv_rep.\1.", rest)
    norm = r"bn_rep.\2.\1." if level_first else r"bn_rep.\1.\2.bn."
    return f"{NETS[part]}." + re.sub(r"^tower\.(\d+)\.norm\.(\d+)\.", norm, rest)
