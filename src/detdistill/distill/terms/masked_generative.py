"""MGD: masked generative distillation (Yang et al., ECCV 2022, arXiv 2205.01529)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.precision import at_least_float32
from detdistill.distill.adapters import FeatureTerm
from detdistill.distill.term import FEATURES, Method, Pair
from detdistill.distill.view import View


class MaskedGenerative(FeatureTerm):
    """From the student's features with random cells blanked out, two convolutions generate the teacher's.

    The squared difference is summed over channels, cells and levels and averaged over images. Generators learn along
    with the student and belong to no detector. The masks come from a generator of random numbers of their own, whose
    seed is the number of batches seen: the student sees the same random numbers as without this method, and a resumed
    run the same masks.

    Args:
        masked: share of the cells that are blanked out, in all channels, 0 to 1. In the authors' code this, and not
            what is left, is called λ.
    """

    method = Method(
        paper="Yang et al., ECCV 2022, arXiv 2205.01529",
        compares="pyramid features, generated from the student's at random cells",
        needs="pyramid features",
        teacher=(FEATURES,),
        weights={"retinanet": 2e-5},
        sources="the authors' configuration",
        reported="RetinaNet R50 37.4 to 41.0, teacher X101 (the authors)",
    )

    step: Tensor

    def __init__(self, *, masked: float = 0.65) -> None:
        super().__init__()
        if not 0 <= masked <= 1:
            raise DetdistillError(f"masked must be 0 to 1, not {masked}")
        self.masked = masked
        self.generators = nn.ModuleList()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def bind(self, pair: Pair) -> list[str]:
        """Makes the adapters and generators."""
        self.generators = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(level.shape[1], level.shape[1], 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(level.shape[1], level.shape[1], 3, padding=1),
            )
            for level in pair.teacher_output.features.maps
        )
        return super().bind(pair)

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features`."""
        numbers = torch.Generator().manual_seed(int(self.step))
        self.step += 1
        differences = []
        for generate, own, other in zip(self.generators, *self.maps(view), strict=True):
            kept = torch.rand(len(own), 1, *own.shape[2:], generator=numbers).to(own.device) >= self.masked
            generated = generate(own * kept)
            differences.append(F.mse_loss(at_least_float32(generated), at_least_float32(other), reduction="sum"))
        total = torch.stack(differences).sum()
        return {"features": total / view.reduce_sum(total.new_tensor(view.targets.num_images))}
