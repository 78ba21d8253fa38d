from __future__ import annotations

from typing import Any

import pytest

from detdistill.core.errors import SettingsError
from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid, TorchvisionArchitecture, Towers


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
