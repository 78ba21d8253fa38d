"""Rank mimicking, forward and backward, against the same loss in two loops over objects.

    OMP_NUM_THREADS=1 python benchmarks/rank_mimicking.py

The plain loop picks each object's candidates with a mask; the sliced one, the fastest we know, sorts them by object
first. All three are timed in turns in one run and must agree; the ratios of the medians are the figures, the
milliseconds depend on the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.losses import rank_mimicking

OBJECTS = (20, 100, 500)  # of one batch
FEWEST, MOST = 4, 40  # candidates of an object
ROUNDS = 15


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student.log_softmax(dim=0), teacher.log_softmax(dim=0), reduction="sum", log_target=True)


def plain_loop(student: Tensor, teacher: Tensor, instance: Tensor) -> Tensor:
    candidates = [instance == i for i in range(int(instance.max()) + 1)]
    return torch.stack([divergence(student[chosen], teacher[chosen]) for chosen in candidates]).mean()


def sliced_loop(student: Tensor, teacher: Tensor, instance: Tensor) -> Tensor:
    order, sizes = instance.argsort(), instance.bincount().tolist()
    slices = zip(torch.split(student[order], sizes), torch.split(teacher[order], sizes), strict=True)
    return torch.stack([divergence(s, t) for s, t in slices]).mean()


LOSSES = (rank_mimicking, plain_loop, sliced_loop)


def milliseconds(loss: Callable[[Tensor, Tensor, Tensor], Tensor], batch: tuple[Tensor, Tensor, Tensor]) -> float:
    start = time.process_time()
    torch.autograd.grad(loss(*batch), batch[0])
    return (time.process_time() - start) * 1000


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    print(f"{FEWEST} to {MOST} candidates an object, {torch.get_num_threads()} thread(s), median of {ROUNDS}, CPU ms")
    print(f"{'objects':>7}{'candidates':>12}{'segments':>10}{'plain':>9}{'ratio':>7}{'sliced':>9}{'ratio':>7}")
    for objects in OBJECTS:
        sizes = torch.randint(FEWEST, MOST + 1, (objects,), generator=generator)
        instance = torch.arange(objects).repeat_interleave(sizes)
        instance = instance[torch.randperm(len(instance), generator=generator)]
        student, teacher = (torch.randn(len(instance), generator=generator) for _ in range(2))
        batch = (student.requires_grad_(), teacher, instance)
        for loop in LOSSES[1:]:
            torch.testing.assert_close(rank_mimicking(*batch), loop(*batch), rtol=1e-6, atol=1e-6)

        rounds = [[milliseconds(loss, batch) for loss in LOSSES] for _ in range(ROUNDS)]
        segments, plain, sliced = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = f"{plain:9.2f}{plain / segments:7.0f}{sliced:9.2f}{sliced / segments:7.0f}"
        print(f"{objects:7}{len(instance):12}{segments:10.3f}{ratios}", flush=True)


if __name__ == "__main__":
    main()
