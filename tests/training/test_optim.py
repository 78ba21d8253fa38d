from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from detdistill.training.optim import MovingAverage, build_optimizer, learning_rate_factor
from detdistill.training.recipe import Optimization, Schedule
from support.tiny_detector import tiny_detector


def groups(optimizer: torch.optim.Optimizer) -> dict[int, tuple[float, float]]:
    """Learning rate and decay by the identity of a parameter."""
    return {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_norms_biases_and_scales_do_not_decay_and_the_backbone_has_its_own_rate() -> None:
    detector = tiny_detector("gfl")
    frozen = "backbone.network.conv1.weight"
    detector.get_parameter(frozen).requires_grad = False
    options = Optimization(learning_rate=0.02, backbone_factor=0.1, weight_decay=0.05)
    found = groups(build_optimizer(detector, detector.backbone, options))
    expected: dict[int, Any] = {
        id(parameter): (
            pytest.approx(0.002 if name.startswith("backbone.") else 0.02),
            0.0 if name.endswith(("bias", "scale")) or parameter.ndim == 1 else 0.05,
        )
        for name, parameter in detector.named_parameters()
        if name != frozen
    }
    assert found == expected
    assert len({values[1] for values in found.values()}) == 2


def test_the_optimiser_is_the_one_that_is_asked_for() -> None:
    module = nn.Linear(2, 2)
    sgd = build_optimizer(module, nn.Identity(), Optimization(momentum=0.7))
    assert (type(sgd).__name__, sgd.defaults["momentum"]) == ("SGD", 0.7)
    adamw = build_optimizer(module, nn.Identity(), Optimization(optimizer="adamw", betas=(0.8, 0.9)))
    assert (type(adamw).__name__, adamw.defaults["betas"]) == ("AdamW", (0.8, 0.9))


def test_schedule_1x_by_hand() -> None:
    """COCO's 1x: 500 steps of warm-up, a tenth after 8 and after 11 of 12 epochs."""
    schedule, per_epoch = Schedule(), 1000
    factors = [learning_rate_factor(step, 12 * per_epoch, per_epoch, schedule) for step in range(12 * per_epoch)]
    assert factors[0] == pytest.approx(0.001)
    assert factors[250] == pytest.approx(0.001 + 0.999 / 2)
    assert factors[500] == factors[7999] == 1.0
    assert factors[8000] == factors[10999] == pytest.approx(0.1)
    assert factors[11000] == factors[-1] == pytest.approx(0.01)


def test_cosine_by_hand() -> None:
    schedule = Schedule(decay="cosine", warmup_steps=10, final_factor=0.2)
    factors = [learning_rate_factor(step, 110, 11, schedule) for step in range(110)]
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.6)
    assert factors[35] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert factors[-1] == pytest.approx(0.2, abs=1e-3)


def test_warmup_takes_a_tenth_of_a_short_run_at_most() -> None:
    assert learning_rate_factor(3, 30, 10, Schedule(milestones=())) == 1.0
    assert learning_rate_factor(2, 30, 10, Schedule(milestones=())) < 1.0


@given(
    total=st.integers(1, 300),
    warmup=st.integers(0, 400),
    start=st.floats(0, 1),
    final=st.floats(0, 1),
    cosine=st.booleans(),
)
def test_the_rate_rises_then_falls_within_its_bounds(
    total: int, warmup: int, start: float, final: float, cosine: bool
) -> None:
    schedule = Schedule(
        warmup_steps=warmup, warmup_factor=start, decay="cosine" if cosine else "step", final_factor=final
    )
    factors = [learning_rate_factor(step, total, 7, schedule) for step in range(total)]
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    top = min(warmup, total // 10)
    if cosine:
        assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_moving_average_by_hand() -> None:
    """The first step is copied; the k-th keeps (1 + k) / (10 + k) of the average, at most the decay."""
    linear, norm = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)
    module = nn.Sequential(linear, norm)
    average = MovingAverage(module, decay=0.25)
    expected = float("nan")
    for count, value in enumerate((3.0, 5.0, -1.0, 4.0)):
        with torch.no_grad():
            linear.weight.fill_(value)
        norm(torch.zeros(2, 1))
        average.update_parameters(module)
        kept = min(0.25, (1 + count) / (10 + count))
        expected = value if count == 0 else kept * expected + (1 - kept) * value
        assert average.get_parameter("module.0.weight").item() == pytest.approx(expected)
    assert average.get_buffer("module.1.num_batches_tracked") == 4
    assert not any(parameter.requires_grad for parameter in average.parameters())
