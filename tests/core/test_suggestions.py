from __future__ import annotations

import pytest

from detdistill.core.suggestions import did_you_mean

KNOWN = ["train", "--seed", "--schedule.epochs", "--optimization", "--optimization.learning_rate"]


@pytest.mark.parametrize(
    ("message", "meant"),
    [
        ("unrecognized arguments: --schedule.epoch 3", "--schedule.epochs"),
        ("unrecognized arguments: --sed 3", "--seed"),
        ("unrecognized arguments: --epochs 3 --sede 1", "--schedule.epochs or --seed"),
        ("Group 'optimization' does not accept option 'learning_rte'", "--optimization.learning_rate"),
        ("Option 'optimizaton.learning_rate' is not accepted", "--optimization.learning_rate"),
    ],
)
def test_the_nearest_is_suggested(message: str, meant: str) -> None:
    assert did_you_mean(message, KNOWN) == f"\ndid you mean {meant}?"


@pytest.mark.parametrize("message", ["required: --seed", "unrecognized arguments: --xyzzy", "'train' failed"])
def test_nothing_is_made_up(message: str) -> None:
    assert did_you_mean(message, KNOWN) == ""
