"""TensorFlow's "same" padding in fixed amounts, so that a network can be traced for canvases of any size."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same_arg
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn


class FixedPadding(nn.Module):
    """A convolution that pads as TensorFlow does where its stride divides the sides of its input.

    Args:
        convolution: computes its padding from each input's size.
    """

    def __init__(self, convolution: Conv2dSame) -> None:
        super().__init__()
        self.convolution = convolution
        kernel, stride, dilation = map(list, (convolution.kernel_size, convolution.stride, convolution.dilation))
        self.amounts = pad_same_arg(stride, kernel, stride, dilation)  # one stride is padded like many

    def forward(self, maps: Tensor) -> Tensor:
        """`(N, Q, H, W)` to `(N, Q', H / stride, W / stride)`."""
        own = self.convolution
        return F.conv2d(F.pad(maps, self.amounts), own.weight, own.bias, own.stride, 0, own.dilation, own.groups)


def needs_canvas(network: nn.Module) -> bool:
    """Whether a network pads coarse maps by their own sizes, which may be odd (BiFPN with `padding: same`)."""
    return any(isinstance(module, MaxPool2dSame) for module in network.modules())


def fix_padding(network: nn.Module) -> None:
    """Fixes the padding of every such convolution: nothing else changes on canvases of whole coarsest strides.

    Traced for a free canvas, sizes that are computed from sizes, layer after layer, grow into terms that do not end.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv2dSame):
                setattr(module, name, FixedPadding(child))
