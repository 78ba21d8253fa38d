"""Convolutions that bring the student's features to the teacher's channels. They belong to no detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from detdistill.core.precision import at_least_float32
from detdistill.distill.term import Pair, Term
from detdistill.distill.view import View

Adapter = Literal["auto", "always"]
"""Where a convolution adapts the student's features: where the channels differ, or on every level."""


class ScaledConv(nn.Conv2d):
    """A convolution whose output comes in units of `scale`.

    Features of two networks can differ ten times in size. An optimiser such as AdamW moves every weight by about the
    learning rate a step: the convolution alone would not get there in thousands of steps, while its student is told
    in each of them to grow.

    Args:
        in_channels: of the student's features.
        out_channels: of the teacher's.
        kernel_size: odd; the size of the map is kept.
        scale: standard deviation of the teacher's features.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, scale: Tensor) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.scale: Tensor
        self.register_buffer("scale", scale)

    def forward(self, features: Tensor) -> Tensor:
        """`(N, in_channels, H, W)` to `(N, out_channels, H, W)`."""
        return super().forward(features) * self.scale


class Adapters(nn.Module):
    """One convolution per level from the student's channels to the teacher's; nothing where they agree already.

    The convolutions work in units of the teacher's features, so that these are within reach from the first step on.

    Args:
        kernel_size: of the convolutions.
        always: convolve although the channels agree, as FitNets does.
    """

    def __init__(self, kernel_size: int = 1, *, always: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.always = kernel_size, always
        self.levels = nn.ModuleList()

    def bind(self, pair: Pair) -> list[str]:
        """Makes the convolutions for a pair; returns what was adapted, in plain words."""
        self.levels = nn.ModuleList()
        strides: dict[str, list[str]] = {}
        student, teacher = pair.student_output, pair.teacher_output
        for own, other, (stride, _) in zip(
            student.features.maps, teacher.features.maps, student.features.strides, strict=True
        ):
            channels, wanted = own.shape[1], other.shape[1]
            if channels == wanted and not self.always:
                self.levels.append(nn.Identity())
                continue
            self.levels.append(ScaledConv(channels, wanted, self.kernel_size, _spread(other)))
            strides.setdefault(f"{channels} to {wanted} channels", []).append(str(stride))
        size = f"{self.kernel_size}x{self.kernel_size}"
        return [
            f"a {size} convolution brings the student's features from {channels} at strides {', '.join(levels)}"
            for channels, levels in strides.items()
        ]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps, L x `(N, Q, H, W)`, to the teacher's number of channels."""
        return [adapter(level) for adapter, level in zip(self.levels, features, strict=True)]


class FeatureTerm(Term):
    """A term that compares feature maps, with adapters where the channels differ.

    Args:
        adapter: convolve the student's features `always`, or only where the channels differ.
        kernel_size: of the convolutions.
    """

    def __init__(self, adapter: Adapter = "auto", *, kernel_size: int = 1) -> None:
        super().__init__()
        self.adapters = Adapters(kernel_size, always=adapter == "always")

    def bind(self, pair: Pair) -> list[str]:
        """Makes the adapters."""
        return self.adapters.bind(pair)

    def maps(self, view: View) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The student's maps with the teacher's channels, and the teacher's maps, L x `(N, Q, H, W)` each."""
        return self.adapters(view.student.features.maps), view.teacher.features.maps


def _spread(features: Tensor) -> Tensor:
    """Scalar: the standard deviation of a map; 1 for one that is the same everywhere."""
    deviation = at_least_float32(features.detach()).std()
    return torch.where(deviation > 0, deviation, 1.0)
