"""Convolutions that bring the student's features to the teacher's channels. They belong to no detector."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detdistill.distill.term import Pair


class Adapters(nn.Module):
    """One convolution per level from the student's channels to the teacher's; nothing where they agree already.

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
        for own, other, (stride, _) in zip(student.features, teacher.features, student.grid.strides, strict=True):
            channels, wanted = own.shape[1], other.shape[1]
            if channels == wanted and not self.always:
                self.levels.append(nn.Identity())
                continue
            self.levels.append(nn.Conv2d(channels, wanted, self.kernel_size, padding=self.kernel_size // 2))
            strides.setdefault(f"{channels} to {wanted} channels", []).append(str(stride))
        size = f"{self.kernel_size}x{self.kernel_size}"
        return [
            f"a {size} convolution brings the student's features from {channels} at strides {', '.join(levels)}"
            for channels, levels in strides.items()
        ]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps, L x `(N, Q, H, W)`, to the teacher's number of channels."""
        return [adapter(level) for adapter, level in zip(self.levels, features, strict=True)]
