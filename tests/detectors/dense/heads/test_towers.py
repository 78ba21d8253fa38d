from __future__ import annotations

from typing import Any

import pytest
import torch

from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.heads.towers import ConvTower
from detdistill.detectors.dense.layers import BatchNorm

LEVELS = 3
VARIANTS: list[dict[str, Any]] = [
    {"norm": "group"},
    {"norm": "level_batch", "separable": True, "activation": "silu"},
    {"norm": "none", "separable": True, "activation": "relu6"},
    {"norm": "level_batch", "bias": True},
]


def maps() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 8, 8 // 2**level, 8 // 2**level) for level in range(LEVELS)]


def tower_of(values: dict[str, Any]) -> ConvTower:
    torch.manual_seed(1)
    tower = ConvTower(8, Towers(depth=3, **values), LEVELS)
    for module in tower.modules():
        if isinstance(module, BatchNorm):
            assert module.running_mean is not None
            torch.nn.init.normal_(module.running_mean)
    return tower.eval()


@pytest.mark.parametrize("values", VARIANTS)
@pytest.mark.parametrize("depth", range(4))
def test_a_tower_cut_in_the_middle_is_the_whole_tower(values: dict[str, Any], depth: int) -> None:
    tower, features = tower_of(values), maps()
    kept = tower.up_to_activation(features, depth)
    before = [each.clone() for each in kept]
    for found, expected in zip(tower.from_activation(kept, depth), tower(features), strict=True):
        torch.testing.assert_close(found, expected)
    assert all(torch.equal(one, other) for one, other in zip(kept, before, strict=True))


def test_levels_share_convolutions_but_not_batch_norms() -> None:
    tower = tower_of({"norm": "level_batch", "separable": True, "activation": "silu"})
    names = [name for name, _ in tower[0].named_parameters()]
    norms = [f"norm.{level}.{part}" for level in range(LEVELS) for part in ("weight", "bias")]
    assert names == ["conv.depthwise.weight", "conv.pointwise.weight", *norms]
    features = maps()[0]
    same = tower([features] * LEVELS)
    assert not torch.allclose(same[0], same[1])
    block = tower.blocks[0]
    assert isinstance(block.norm, torch.nn.ModuleList)
    expected = torch.nn.functional.silu(block.norm[1](block.conv(features)))
    torch.testing.assert_close(block(features, 1), expected)


def test_batch_norms_are_tensorflows() -> None:
    norm = BatchNorm(4)
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)


def test_a_batch_norm_of_one_value_reads_its_statistics() -> None:
    norm = BatchNorm(2).train()
    assert norm.running_mean is not None
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    found = norm(torch.tensor([1.0, 5.0]).reshape(1, 2, 1, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 3.0]) / (1 + 1e-3) ** 0.5)
    assert norm.running_mean.tolist() == [1.0, 2.0]
