from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from detdistill.core.errors import SettingsError
from detdistill.core.settings import from_values, to_values
from detdistill.detectors.dense.architecture import (
    Architecture,
    BiFeaturePyramid,
    FeaturePyramid,
    TorchvisionArchitecture,
    Towers,
)
from detdistill.detectors.dense.choices import EfficientDetPreset
from detdistill.detectors.dense.efficientdet_scaling import SCALINGS


@pytest.mark.parametrize(
    ("kind", "values", "place"),
    [
        (FeaturePyramid, {"channels": 0}, "channels"),
        (FeaturePyramid, {"extra_levels": -1}, "extra_levels"),
        (FeaturePyramid, {"kind": "bifpn"}, "kind"),
        (Architecture, {"kind": "yolo"}, "kind"),
        (Architecture, {"backbone_width": 0.0}, "backbone_width"),
        (Architecture, {"backbone_channels": (8, 8, 16)}, "backbone_channels"),
        (Architecture, {"backbone_channels": (8, 8, 16, 0)}, r"backbone_channels\[3\]"),
        (Towers, {"channels": 0}, "channels"),
        (Towers, {"depth": -1}, "depth"),
        (Towers, {"groups": 0}, "groups"),
        (Towers, {"separable": True, "deformable": True}, "deformable and separable"),
        (Towers, {"activation": "gelu"}, "activation"),
        (BiFeaturePyramid, {"kind": "fpn"}, "kind"),
        (BiFeaturePyramid, {"kind": "bifpn", "repeats": 0}, "repeats"),
        (BiFeaturePyramid, {"kind": "bifpn", "fusion": "max"}, "fusion"),
        (Architecture, {"kind": "efficientdet", "preset": "d9"}, "preset must be one of d0, .*'d9'"),
        (Architecture, {"kind": "efficientdet", "preset": 0}, "preset must be one of d0"),
        (Architecture, {"kind": "gfl", "preset": "d0"}, "preset d0 .* kind is gfl"),
        (TorchvisionArchitecture, {"name": "fcos_resnet50_fpn", "frozen_norm_eps": -1.0}, "frozen_norm_eps"),
        (TorchvisionArchitecture, {"name": "retinanet_resnet50_fpn_v2", "frozen_norm_eps": 0.0}, "frozen_norm_eps"),
    ],
)
def test_values_out_of_range_are_refused(kind: type[Any], values: dict[str, Any], place: str) -> None:
    with pytest.raises(SettingsError, match=place):
        kind(**values)


def test_the_name_in_the_literature() -> None:
    assert Architecture("fcos").name == "fcos"
    assert TorchvisionArchitecture("fcos_resnet50_fpn").name == "fcos_resnet50_fpn"


def test_options_may_be_lists_in_python_too() -> None:
    given = Architecture(kind="retinanet", options={"anchor_scales": [1.25, 2]})  # type: ignore[dict-item]
    assert given == Architecture(kind="retinanet", options={"anchor_scales": (1.25, 2)})


# Image side, channels, cells, convolutions of the head, backbone, fusion, anchor scale: google/automl and effdet 0.4.1.
PUBLISHED = {
    "d0": (512, 64, 3, 3, "efficientnet_b0", "fast", 4),
    "d1": (640, 88, 4, 3, "efficientnet_b1", "fast", 4),
    "d2": (768, 112, 5, 3, "efficientnet_b2", "fast", 4),
    "d3": (896, 160, 6, 4, "efficientnet_b3", "fast", 4),
    "d4": (1024, 224, 7, 4, "efficientnet_b4", "fast", 4),
    "d5": (1280, 288, 7, 4, "efficientnet_b5", "fast", 4),
    "d6": (1280, 384, 8, 5, "efficientnet_b6", "sum", 4),
    "d7": (1536, 384, 8, 5, "efficientnet_b6", "sum", 5),
    "d7x": (1536, 384, 8, 5, "efficientnet_b7", "sum", 4),
    "lite0": (320, 64, 3, 3, "tf_efficientnet_lite0", "sum", 3),
    "lite1": (384, 88, 4, 3, "tf_efficientnet_lite1", "sum", 3),
    "lite2": (448, 112, 5, 3, "tf_efficientnet_lite2", "sum", 3),
    "lite3": (512, 160, 6, 4, "tf_efficientnet_lite3", "sum", 4),
    "lite3x": (640, 200, 6, 4, "tf_efficientnet_lite3", "sum", 3),
    "lite4": (640, 224, 7, 4, "tf_efficientnet_lite4", "sum", 4),
}


@pytest.mark.parametrize("preset", get_args(EfficientDetPreset))
def test_presets_are_the_published_sizes(preset: EfficientDetPreset) -> None:
    made = Architecture("efficientdet", preset=preset)
    assert isinstance(made.pyramid, BiFeaturePyramid)
    assert made.towers is not None
    scale = made.options["anchor_scale"]
    found = (made.pyramid.channels, made.pyramid.repeats, made.towers.depth, made.backbone, made.pyramid.fusion, scale)
    assert (SCALINGS[preset].side, *found) == PUBLISHED[preset]
    is_lite = preset.startswith("lite")
    assert made.pyramid.extra_levels == (3 if preset == "d7x" else 2)
    assert made.pyramid.padding == ("same" if is_lite else "symmetric")
    assert made.pyramid.bias == made.towers.bias == is_lite
    assert made.pyramid.activation == made.towers.activation == ("relu6" if is_lite else "silu")
    assert made.towers.separable
    assert made.towers.norm == "level_batch"


def test_a_preset_fills_only_what_is_not_given() -> None:
    values = {
        "kind": "efficientdet",
        "preset": "d1",
        "backbone": "resnet18",
        "strides": [8, 16],
        "pyramid": {"repeats": 1},
        "towers": {"depth": 2},
        "options": {"gamma": 2.0},
    }
    made = from_values(Architecture, values)
    preset = Architecture("efficientdet", preset="d1")
    assert isinstance(preset.pyramid, BiFeaturePyramid)
    assert preset.towers is not None
    assert made == Architecture(
        kind="efficientdet",
        preset="d1",
        backbone="resnet18",
        strides=(8, 16),
        pyramid=replace(preset.pyramid, repeats=1),
        towers=replace(preset.towers, depth=2),
        options={"anchor_scale": 4.0, "gamma": 2.0},
    )
    fpn = from_values(Architecture, {"kind": "efficientdet", "pyramid": {"kind": "fpn", "channels": 32}})
    assert fpn.pyramid == FeaturePyramid(channels=32)
    for each in (made, fpn, preset):
        assert from_values(Architecture, to_values(each)) == each


def test_d0_is_the_default_size() -> None:
    assert replace(Architecture("efficientdet"), preset="d0") == Architecture("efficientdet", preset="d0")


def test_a_pyramid_without_a_kind_is_an_fpn() -> None:
    assert from_values(Architecture, {"pyramid": {"channels": 32}}).pyramid == FeaturePyramid(channels=32)
    found = from_values(Architecture, {"pyramid": {"kind": "bifpn"}}).pyramid
    assert found == BiFeaturePyramid(kind="bifpn")
