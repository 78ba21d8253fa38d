"""Convolutions whose backward pass in bfloat16 is faulty on CPUs (torch 2.14 with oneDNN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NARROWEST = 16
"""Channels. With fewer, the backward pass of a bfloat16, channels-last 1x1 convolution with a stride writes beyond its
memory on CPUs: it crashes, or continues with damaged numbers."""


@dataclass(frozen=True)
class Convolution:
    """A convolution that took part in a backward pass.

    Attributes:
        channels: Channels of its input.
        kernel: Size in each direction.
        stride: In each direction.
        cells: Size of its input in each direction.
        made: Size of its output in each direction.
    """

    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    cells: tuple[int, ...]
    made: tuple[int, ...]

    @classmethod
    def of_backward(cls, gradient: Tensor, input: Tensor, weight: Tensor, stride: Sequence[int]) -> Convolution:
        """Describe the convolution of a call of `aten.convolution_backward`.

        Args:
            gradient: `(N, C, …)` of its output.
            input: `(N, C, …)`.
            weight: `(C, C / groups, …)`.
            stride: In each direction, or one for all.
        """
        return cls(
            input.shape[1], tuple(weight.shape[2:]), tuple(stride), tuple(input.shape[2:]), tuple(gradient.shape[2:])
        )


def fault(convolutions: Sequence[Convolution], canvas: Sequence[int], smallest: Sequence[int]) -> str | None:
    """Say why a detector must not be trained in bfloat16 on a CPU, by the convolutions of one step; None if it may.

    Args:
        convolutions: Those of the step.
        canvas: Height and width in pixels of its images.
        smallest: Height and width in pixels of the smallest canvas of the run, on which a map may have a single cell
            that has several on this one.
    """
    for each in convolutions:
        if _is_narrow(each.channels, each.kernel, each.stride):
            return f"bf16 damages memory in 1x1 convolutions with a stride and under {NARROWEST} channels"
        if _may_be_one(each.cells, canvas, smallest) and _may_be_one(each.made, canvas, smallest):
            return "bf16 gives wrong gradients in convolutions from one cell to one cell"
    return None


def _may_be_one(cells: Sequence[int], canvas: Sequence[int], smallest: Sequence[int]) -> bool:
    """Whether a map that has these sizes on one canvas may have a single cell on the smallest."""
    if len(cells) != len(canvas):  # no map of the image
        return max(cells) == 1
    # Sizes are rounded up: (size - 1) * stride < side. A single cell needs a stride of at least the smallest side.
    return all((size - 1) * min(least, side) < side for size, side, least in zip(cells, canvas, smallest, strict=True))


def narrow_shortcuts(module: nn.Module) -> list[str]:
    """Return the names of the submodules that damage memory in bfloat16."""
    return [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d) and _is_narrow(part.in_channels, part.kernel_size, part.stride)
    ]


def has_bf16_instructions() -> bool:
    """Return whether this processor computes in bfloat16; True where torch does not know.

    Without them a step takes up to eleven times as long as in float32: `benchmarks/bf16.py`.
    """
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.14
        return True
    known = torch.cpu.get_capabilities()
    return known["architecture"] != "x86_64" or bool(known["avx512_bf16"] or known["amx_bf16"])


def _is_narrow(channels: int, kernel: Sequence[int], stride: Sequence[int]) -> bool:
    return max(kernel) == 1 and max(stride) > 1 and channels < NARROWEST
