"""What a batch gave: both detectors' outputs as terms saw them, and the losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detdistill.core.output import Output
from detdistill.core.structures import Matches, Targets
from detdistill.distill.view import View

DETECTION = "detection"
"""The detection loss, among the names of terms."""

MEASURED_SIZE = 1024
"""About what a loss is scaled to before its gradient is measured: fp16 would lose that of a loss of 1e-6."""


@dataclass(frozen=True, eq=False)
class Compared:
    """What a batch gave.

    Attributes:
        output: the student's.
        detection: terms of the detection loss, weighted.
        terms: the distillation terms, not weighted.
        views: what they compared.
        matches: of the student's candidates, by stage.
        targets: the objects, also those that the teacher found in unlabelled images.
    """

    output: Output
    detection: dict[str, Tensor]
    terms: dict[str, Tensor]
    views: tuple[View, ...]
    matches: Matches
    targets: Targets

    def squared_lengths(self) -> dict[str, Tensor]:
        """Squared length of the gradient at the student's pyramid features, of the `detection` loss and each term.

        The graph stays as it is, and no parameter gets a gradient.
        """
        lengths = {}
        for name, loss in {DETECTION: torch.stack(tuple(self.detection.values())).sum(), **self.terms}.items():
            exponent = loss.detach().abs().clamp(min=1e-9).frexp().exponent
            scale = torch.ldexp(loss.new_tensor(MEASURED_SIZE), -exponent)  # a power of two rounds nothing
            gradients = torch.autograd.grad(
                loss * scale, self.output.features.maps, retain_graph=True, allow_unused=True
            )
            squares = [(gradient.float() / scale).square().sum() for gradient in gradients if gradient is not None]
            lengths[name] = torch.stack(squares).sum() if squares else torch.zeros_like(loss.detach())
        return lengths
