"""Focal loss, forward and backward, against torchvision's on one-hot targets, at the size of a RetinaNet batch.

    OMP_NUM_THREADS=1 python benchmarks/focal_loss.py

Both are timed in turns in one run; the ratio of their medians is the figure, the seconds depend on the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from detdistill.losses.focal import focal_loss

PRIORS, CLASSES = 201_600, 80  # one image of 800 x 1344, nine anchors in each cell of five levels
POSITIVE_SHARE = 5e-4
ROUNDS = 7


def torchvision_loss(logits: Tensor, labels: Tensor) -> Tensor:
    target = torch.zeros_like(logits)
    prior = (labels >= 0).nonzero().squeeze(1)
    target[prior, labels[prior]] = 1
    loss: Tensor = sigmoid_focal_loss(logits, target, alpha=0.25, gamma=2.0)
    return loss


def seconds(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> float:
    start = time.perf_counter()
    torch.autograd.grad(loss(logits, labels).sum(), logits)
    return time.perf_counter() - start


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(PRIORS, CLASSES, generator=generator) - 4).requires_grad_()
    positive = torch.rand(PRIORS, generator=generator) < POSITIVE_SHARE
    labels = torch.randint(CLASSES, (PRIORS,), generator=generator).where(positive, torch.tensor(-1))
    torch.testing.assert_close(focal_loss(logits, labels), torchvision_loss(logits, labels))

    times = [(seconds(focal_loss, logits, labels), seconds(torchvision_loss, logits, labels)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{PRIORS} priors x {CLASSES} classes, {torch.get_num_threads()} thread(s), median of {ROUNDS}")
    print(f"detdistill  {ours:.3f} s\ntorchvision {theirs:.3f} s\nratio       {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
