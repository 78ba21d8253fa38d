from __future__ import annotations

from typing import get_args

import pytest

from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.settings import fields_of, groups
from detdistill.detectors.catalog import KINDS, build_detector
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.choices import HeadName, NetworkName
from detdistill.detectors.dense.detector import HEADS
from detdistill.detectors.dense.torchvision_detector import NETWORKS
from detdistill.training.recipe import Recipe
from support.tiny_detector import layers

SPEC = InputSpec(size=ImageSize(letterbox=64))


@pytest.mark.parametrize(
    "architecture",
    [layers("fcos", backbone_width=0.125, channels=16), TorchvisionArchitecture("fcos_resnet50_fpn")],
    ids=lambda architecture: architecture.kind,
)
def test_every_kind_is_built_from_its_architecture(architecture: object) -> None:
    detector = build_detector(architecture, ("a", "b"), SPEC)
    assert detector.architecture == architecture
    assert (detector.classes, detector.input) == (("a", "b"), SPEC)
    assert isinstance(detector, KINDS[detector.catalog_name])


def test_recipes_can_name_every_kind() -> None:
    assert {kind.architecture_type for kind in KINDS.values()} == set(groups(fields_of(Recipe)["detector"]))


def test_the_words_that_recipes_choose_from_are_those_that_are_built() -> None:
    assert get_args(HeadName) == tuple(HEADS)
    assert get_args(NetworkName) == tuple(NETWORKS)
