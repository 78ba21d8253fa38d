"""Bring your own detector: what meets the contract can teach, learn in a loop of yours, be scored and analyzed.

This one is as small as it gets: five convolutions, one level of stride 16, one point per cell, a positive wherever the
point lies in the middle of an object. `check_detector` says what is missing while you write yours.

    python examples/own_detector.py
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detdistill.core.output import DENSE, Candidates, Output, Predictions
from detdistill.core.structures import Detections, Matches, ReduceSum, Targets, single_process
from detdistill.detectors.base import Detector
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.assigners import FcosAssigner
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.detectors.dense.priors import PriorLayout, cell_boxes
from detdistill.detectors.postprocess import PostProcessing
from detdistill.losses.box import giou_loss
from detdistill.losses.focal import focal_loss

STRIDE = 16


class TinyDetector(Detector):
    """A detector that knows nothing of the toolkit's own heads, pyramid and backbones."""

    def __init__(self, classes: Sequence[str], width: int = 32) -> None:
        super().__init__(classes)
        convs = [nn.Conv2d(3 if level == 0 else width, width, 3, stride=2, padding=1) for level in range(4)]
        self.features = nn.Sequential(*(layer for conv in convs for layer in (conv, nn.ReLU())))
        self.predictor = nn.Conv2d(width, len(classes) + 4, 3, padding=1)
        self.layout = PriorLayout([STRIDE], cell_boxes([STRIDE]))
        self.assigner = FcosAssigner(((-1.0, float("inf")),), center_radius=1.5)
        self.postprocessing = PostProcessing()

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """Normalised images `(N, 3, H, W)` to what every part of the toolkit reads."""
        features = self.features(images)
        grid = self.layout.grid([tuple(features.shape[-2:])], features.device)
        predicted = grid.flatten([self.predictor(features)])
        class_logits, distances = predicted[..., :-4], F.softplus(predicted[..., -4:])
        return Output.dense(
            (features,), Predictions(Candidates(grid), class_logits, distances, DistanceCoder("stride"))
        )

    def match(self, output: Output, targets: Targets) -> Matches:
        """Which candidate is responsible for which object, and which are ignored; distillation asks for the same."""
        return {DENSE: self.assigner(output.predictions.grid, targets)}

    def loss(
        self, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        """Named terms; divide by `reduce_sum(count)`, never by a count of this process alone."""
        predictions, assignment = output.predictions, matches[DENSE]
        positive = assignment.positive
        goals = targets.boxes[assignment.positive_targets]
        count = reduce_sum(torch.tensor(float(len(goals)), device=goals.device)).clamp(min=1)
        return {
            "classification": focal_loss(predictions.class_logits, assignment.labels(targets)).sum() / count,
            "box": giou_loss(predictions.boxes(positive), goals).sum() / count,
        }

    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        """Best first, inside the images."""
        return self.postprocessing(output.predictions, sizes)


def main() -> None:
    detector = TinyDetector(("cat", "dog"))
    check_detector(detector)
    print(f"TinyDetector meets the contract ({sum(p.numel() for p in detector.parameters()):,} parameters)")


if __name__ == "__main__":
    main()
