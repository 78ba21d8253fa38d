from __future__ import annotations

from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from detdistill.core.grid import Grid
from detdistill.core.output import Candidates, Output, Predictions
from detdistill.detectors.dense.architecture import TorchvisionArchitecture, Towers
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.detectors.dense.folding import folded
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from support.tiny_detector import tiny_detector

Module = TypeVar("Module", bound=nn.Module)


def lived(detector: Module) -> Module:
    """With batch norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            for tensor, low in ((module.running_var, 0.5), (module.running_mean, -0.2), (module.weight, 0.5)):
                assert tensor is not None
                tensor.data.copy_(low + torch.rand(tensor.shape, generator=generator))
    return detector.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(each, nn.BatchNorm2d | FrozenBatchNorm2d) for each in module.modules())


@torch.no_grad()
def assert_same(one: nn.Module, other: nn.Module) -> None:
    for shape in ((2, 3, 64, 96), (1, 3, 32, 32)):
        pixels = torch.randn(shape)
        found, expected = one(pixels), other(pixels)
        pairs = [
            (found.predictions.class_logits, expected.predictions.class_logits),
            (found.predictions.regression, expected.predictions.regression),
            (found.features.maps, expected.features.maps),
        ]
        for values in pairs:
            torch.testing.assert_close(*values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("retinanet", {}),
        ("gflv2", {}),
        ("vfnet", {}),
        ("fcos", {"backbone": "mobilenetv2_035", "backbone_width": 1.0}),
        ("atss", {"backbone": "tf_efficientnet_lite0", "backbone_width": 1.0}),
    ],
)
def test_a_folded_detector_computes_the_same(head: HeadName, changes: dict[str, Any]) -> None:
    detector = lived(tiny_detector(head, **changes))
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    network = folded(detector)
    assert norms(detector) > 10
    assert norms(network) == 0
    assert_same(network, detector)
    after = detector.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items()), "the detector is as it was"


def test_a_tower_that_reads_every_level_is_folded_once() -> None:
    detector = lived(tiny_detector("retinanet", towers=Towers(depth=2, norm="batch")))
    network = folded(detector)
    assert norms(network) == 0
    assert_same(network, detector)


def test_torchvisions_frozen_batch_norms() -> None:
    architecture = TorchvisionArchitecture("fcos_resnet50_fpn")
    detector = lived(TorchvisionDetector.from_architecture(architecture, ("a", "b")))
    network = folded(detector)
    assert norms(network) < norms(detector)
    assert_same(network, detector)


class Strange(nn.Module):
    """Something else reads what the convolution made before the batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, pixels: Tensor) -> Output:
        made = self.convolution(pixels)
        features = made + self.norm(made)
        flat = features.flatten(2).mT
        grid = Grid((tuple(features.shape[2:]),), ((1, 1),), tuple(torch.zeros(1, 1, 4)))
        return Output.dense((features,), Predictions(Candidates(grid), flat, flat, DistanceCoder()))


def test_what_cannot_be_folded_comes_back_as_it_is() -> None:
    strange = lived(Strange())
    assert folded(strange) is strange


def test_batch_norms_without_statistics_stay() -> None:
    detector = tiny_detector("retinanet")
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    assert norms(folded(detector)) == norms(detector)
