"""Batches for two small detectors, and detectors that score some objects' candidates high."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detdistill.core.structures import Targets
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.distill.distiller import Distiller
from detdistill.distill.term import Term
from detdistill.distill.terms import TERMS
from detdistill.distill.weighting import Weight

SIDE = 128
BOXES = ((10.0, 12.0, 60.0, 70.0), (50.0, 40.0, 120.0, 118.0), (4.0, 4.0, 30.0, 36.0))


def batch(*labels: Sequence[int], seed: int = 0, padded: bool = True) -> tuple[Tensor, Targets]:
    """Random images, the last one padded, with as many objects each as there are labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    sizes = torch.full((len(labels), 2), SIDE)
    if padded:
        sizes[-1] = torch.tensor([SIDE, 96])
    boxes = [torch.tensor(BOXES)[: len(own)] for own in labels]
    return images, Targets.from_images(boxes, [torch.tensor(own, dtype=torch.int64) for own in labels], sizes)


def confident(detector: DenseDetector, seed: int = 5) -> DenseDetector:
    """The detector with scores of every height: fresh heads give all candidates nearly the same."""
    generator = torch.Generator().manual_seed(seed)
    predictor: Any = detector.get_submodule("head.class_predictor")
    with torch.no_grad():
        predictor.weight.copy_(torch.randn(predictor.weight.shape, generator=generator) * 0.3)
        predictor.bias.fill_(-1.0)
    return detector


def distiller(
    student: Detector,
    teacher: Detector,
    options: Mapping[str, Mapping[str, Any]],
    weight: float | None = 1.0,
    **more: Any,
) -> Distiller:
    """With terms by name and options, all of one weight."""
    terms: dict[str, Term] = {name: TERMS[name](**given) for name, given in options.items()}
    return Distiller(student, teacher, terms, weights={name: Weight(weight, 0.5) for name in terms}, **more)


def gradients(module: nn.Module, loss: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of every trainable parameter that the sum of a loss reaches."""
    module.zero_grad()
    torch.autograd.backward(torch.stack(tuple(loss.values())).sum())
    found = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    module.zero_grad()
    return found
