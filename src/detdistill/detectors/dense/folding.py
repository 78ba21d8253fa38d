"""Batch norms that are computed by the convolutions before them, for networks that are only looked at."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from detdistill.core.output import Output

Module = TypeVar("Module", bound=nn.Module)
BatchNorm: TypeAlias = nn.BatchNorm2d | FrozenBatchNorm2d

EXAMPLE_SIDE = 128
"""Pixels; of the image by which is found which batch norm reads which convolution."""
TOLERANCE = 1e-3
"""Of the largest value of an output: what rounding may change."""


def folded(detector: Module) -> Module:
    """A copy of a detector, in evaluation mode, in which every batch norm behind a convolution is part of it.

    What such a batch norm does is a scale and a shift, but it reads and writes every map once more. A batch norm that
    reads anything else stays. If the copy does not compute what the detector does, the detector itself comes back:
    something else reads a convolution's output, or changes it in between.

    Args:
        detector: a `Detector` whose statistics stand; it is not changed.
    """
    pixels = torch.randn(1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE, generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(next(detector.parameters()))
    network = copy.deepcopy(detector).eval()
    with torch.no_grad():
        pairs, expected = _pairs(network, pixels)
        places = {child: (parent, name) for parent in network.modules() for name, child in parent.named_children()}
        for norm, convolution in pairs:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            parent, name = places[norm]
            setattr(parent, name, getattr(norm, "act", nn.Identity()))  # timm's hold their activation
        return network if _agree(network(pixels), expected) else detector


def _pairs(network: nn.Module, pixels: Tensor) -> tuple[list[tuple[BatchNorm, nn.Conv2d]], Output]:
    """Each batch norm that reads one convolution and is its only one, and the network's output."""
    made: list[tuple[Tensor, nn.Conv2d]] = []
    read: defaultdict[BatchNorm, list[nn.Conv2d | None]] = defaultdict(list)

    def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        made.append((output, module))  # kept, so that no other tensor is taken for it

    def find(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, BatchNorm)
        read[module].append(next((by for output, by in reversed(made) if output is inputs[0]), None))

    handles = [
        module.register_forward_hook(note) if isinstance(module, nn.Conv2d) else module.register_forward_pre_hook(find)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | BatchNorm)
    ]
    output: Output = network(pixels)
    for handle in handles:
        handle.remove()
    readers = defaultdict(set)
    for norm, convolutions in read.items():
        for convolution in convolutions:
            readers[convolution].add(norm)
    return [
        (norm, convolution)
        for norm, (convolution, *others) in read.items()
        if convolution is not None
        and norm.running_mean is not None
        and all(other is convolution for other in others)
        and readers[convolution] == {norm}
        and sum(by is convolution for _, by in made) == len(others) + 1
    ], output


def _agree(found: Output, expected: Output) -> bool:
    pairs = [
        (found.predictions.class_logits, expected.predictions.class_logits),
        (found.predictions.regression, expected.predictions.regression),
        *zip(found.features.maps, expected.features.maps, strict=True),
    ]
    return all(float((one - other).abs().max()) <= TOLERANCE * float(other.abs().max()) for one, other in pairs)
