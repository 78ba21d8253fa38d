from __future__ import annotations

import pytest
import torch
from examples.own_detector import TinyDetector
from torch.nn.modules.batchnorm import _BatchNorm

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.training.freezing import freeze
from detdistill.training.recipe import BatchNorm, Start
from support.tiny_detector import layers, tiny_detector


def frozen_parameters(detector: DenseDetector) -> set[str]:
    return {name for name, parameter in detector.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    ("stages", "modules"), [(0, ()), (1, ("conv1", "bn1", "layer1")), (2, ("conv1", "bn1", "layer1", "layer2"))]
)
def test_stages_of_a_resnet(stages: int, modules: tuple[str, ...]) -> None:
    detector = tiny_detector()
    still = freeze(detector, Start(frozen_stages=stages))
    under = tuple(f"backbone.network.{module}." for module in modules)
    assert frozen_parameters(detector) == {
        name for name, _ in detector.named_parameters() if under and name.startswith(under)
    }
    norms = {id(module) for module in still if isinstance(module, _BatchNorm)}
    assert norms == {
        id(module)
        for name, module in detector.named_modules()
        if under and f"{name}.".startswith(under) and isinstance(module, _BatchNorm)
    }


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "convnext_atto", "mobilenetv2"])
def test_the_map_of_the_frozen_stage_does_not_depend_on_what_is_trained(backbone: str) -> None:
    """Other networks name their stages otherwise: what is trained must not change the map of stride 4."""
    torch.manual_seed(0)
    architecture = layers(backbone=backbone, strides=(4, 8, 16, 32), channels=16, backbone_width=1.0)
    detector = DenseDetector(architecture, ("cat",)).train()
    for module in freeze(detector, Start(frozen_stages=1)):
        module.training = False
    images = torch.randn(2, 3, 64, 64)
    before = [level.detach() for level in detector.backbone(images)]
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    after = detector.backbone(images)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])


@pytest.mark.parametrize(("policy", "is_still", "is_trained"), [("train", 0, 1), ("eval", 1, 1), ("frozen", 1, 0)])
def test_batch_norm_policies(policy: BatchNorm, is_still: bool, is_trained: bool) -> None:
    detector = tiny_detector()
    still = {id(module) for module in freeze(detector, Start(batch_norm=policy))}
    for module in detector.modules():
        if isinstance(module, _BatchNorm):
            assert (id(module) in still) == bool(is_still)
            assert module.weight.requires_grad == bool(is_trained)
    assert any(parameter.requires_grad for parameter in detector.parameters())


def test_a_stage_that_is_not_there() -> None:
    detector = tiny_detector()
    with pytest.raises(DetdistillError, match=r"no map of stride 64; it has those of the strides 2, 4, 8, 16, 32"):
        freeze(detector, Start(frozen_stages=5))


def test_stages_of_an_unknown_backbone_cannot_be_frozen() -> None:
    with pytest.raises(DetdistillError, match="the stages of this TinyDetector's backbone are not known"):
        freeze(TinyDetector(("a",)), Start(frozen_stages=1))
