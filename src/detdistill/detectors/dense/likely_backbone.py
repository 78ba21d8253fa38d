"""What network the names and shapes of weights suggest, for messages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from detdistill.detectors.dense.backbones import RESNET_CHANNELS
from detdistill.detectors.dense.efficientnet_lite import is_lukemelas
from detdistill.detectors.importing.mmdet_layers import BASIC_DEPTHS, BOTTLENECK_DEPTHS

BLOCK = re.compile(r"(?:^|\.)layer([1-4])\.(\d+)\.conv([123])\.(?:conv\.)?weight$")
SEPARABLE = re.compile(r"(?:^|\.)blocks\.\d+\.\d+\.conv_dw\.")
LITE0_BLOCKS = 16
SHOWN = 3


def likely_backbone(state: Mapping[str, Tensor]) -> str:
    """The network that weights seem to be of, such as `resnet50`; else how their names start.

    Args:
        state: tensors by name, below any prefix.
    """
    blocks: dict[str, set[str]] = {}
    widths: dict[str, int] = {}
    bottleneck = False
    for name, tensor in state.items():
        match = BLOCK.search(name)
        if match is not None:
            blocks.setdefault(match[1], set()).add(match[2])
            bottleneck |= match[3] == "3"
            if match[2] == "0" and match[3] == "1" and tensor.ndim == 4:
                widths[match[1]] = tensor.shape[0]
    counts = tuple(len(blocks.get(stage, ())) for stage in "1234")
    depth = (BOTTLENECK_DEPTHS if bottleneck else BASIC_DEPTHS).get(counts)
    if depth is not None:
        name = f"resnet{depth}"
        channels = tuple(widths.get(stage, 0) for stage in "1234")
        return name if channels == RESNET_CHANNELS else f"{name} with the channels {channels}"
    if is_lukemelas(state):
        numbers = {match[1] for key in state if (match := re.search(r"_blocks\.(\d+)\.", key))}
        squeezed = any("._se_reduce." in key for key in state)
        lite0 = len(numbers) == LITE0_BLOCKS and not squeezed
        return "tf_efficientnet_lite0" if lite0 else "an EfficientNet"
    if any(SEPARABLE.search(key) for key in state):
        return "an EfficientNet or MobileNet"
    starts = list(dict.fromkeys(".".join(key.split(".")[:2]) for key in state))
    more = " …" if len(starts) > SHOWN else ""
    return f"a network whose names start with {', '.join(starts[:SHOWN])}{more}" if starts else "nothing"
