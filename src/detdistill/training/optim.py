"""The optimiser and the learning rate over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from detdistill.training.recipe import Optimization, Schedule

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_optimizer(module: nn.Module, backbone: nn.Module | None, options: Optimization) -> Optimizer:
    """The optimiser of everything that is not frozen, in up to four groups.

    Args:
        module: what is trained.
        backbone: the part of it with the learning rate `backbone_factor * learning_rate`; None for no such part.
        options: which optimiser, and how.
    """
    in_backbone = set() if backbone is None else {id(parameter) for parameter in backbone.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            # Norms, biases and scales are the parameters without a matrix.
            groups.setdefault((id(parameter) in in_backbone, parameter.ndim > 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": options.learning_rate * (options.backbone_factor if is_backbone else 1.0),
            "weight_decay": options.weight_decay if is_decayed else 0.0,
        }
        for (is_backbone, is_decayed), parameters in groups.items()
    ]
    if options.optimizer == "sgd":
        return SGD(settings, momentum=options.momentum)
    return AdamW(settings, betas=options.betas)


def warmup_steps(total: int, schedule: Schedule) -> int:
    """Steps in which the learning rate grows, of a run of `total` steps."""
    return min(schedule.warmup_steps, total // 10)


def learning_rate_factor(step: int, total: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """The learning rate of a step, relative to its full height.

    Args:
        step: 0 to `total` - 1.
        total: steps of the run.
        steps_per_epoch: steps of one epoch.
        schedule: warm-up and decay.
    """
    warmup = warmup_steps(total, schedule)
    rise = schedule.warmup_factor + (1 - schedule.warmup_factor) * step / warmup if step < warmup else 1.0
    if schedule.decay == "step":
        return rise * schedule.gamma ** sum(step >= epoch * steps_per_epoch for epoch in schedule.milestones)
    progress = max(step - warmup, 0) / max(total - warmup, 1)
    fall = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    return rise * (schedule.final_factor + (1 - schedule.final_factor) * fall)


class MovingAverage(torch.optim.swa_utils.AveragedModel):
    """The moving average of a module's weights and buffers, in `module`.

    Args:
        module: what is averaged; it is copied.
        decay: share of the average that a step keeps, in the long run. The k-th step keeps (1 + k) / (10 + k) if that
            is less: the random weights of the beginning are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        def average(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
            share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
            if averaged[0].is_floating_point():
                torch._foreach_lerp_(averaged, current, share)
            else:  # batch norm's count of batches
                torch._foreach_copy_(averaged, current)

        super().__init__(module, multi_avg_fn=average, use_buffers=True)
        self.requires_grad_(requires_grad=False)
