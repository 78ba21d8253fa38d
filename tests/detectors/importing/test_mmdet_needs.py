from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.choices import MmdetHeadName
from detdistill.detectors.importing.mmdet_config import ConfigReading
from detdistill.detectors.importing.mmdet_keys import newest_names
from detdistill.detectors.importing.mmdet_layers import MmdetLayers, read_layers
from detdistill.detectors.importing.mmdet_needs import needed_settings, refuse_impossible, refuse_unknown
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from support.mmdet_files import mmdet_state, small


def layers(head: MmdetHeadName) -> MmdetLayers:
    return read_layers(newest_names(mmdet_state(small(head))), head)


@pytest.mark.parametrize("head", get_args(MmdetHeadName))
def test_what_is_needed_is_a_setting_and_asked_for_once(head: MmdetHeadName) -> None:
    needed = needed_settings(head, layers(head))
    assert len(set(needed)) == len(needed)
    assert set(needed) <= set(vars(MmdetSettings()))
    with pytest.raises(DetdistillError) as refused:
        refuse_unknown(needed, MmdetSettings(), head)
    assert str(refused.value).count("(config: ") == len(needed)


def test_what_is_known_is_not_asked_for() -> None:
    with pytest.raises(DetdistillError, match=r"--bgr …\):\n  bgr: [^\n]*$"):
        refuse_unknown(["mean", "bgr"], MmdetSettings(mean=(0, 0, 0)), "gfl")
    refuse_unknown(["mean"], MmdetSettings(mean=(0, 0, 0)), "gfl")


def test_impossible_values_are_all_listed() -> None:
    known = MmdetSettings(
        head="gfl",
        anchor_scales=(8.0,),
        anchor_ratios=(2.0,),
        groups=0,
        score_threshold=1.5,
        iou_threshold=0.6,
        candidates_per_level=1000,
        max_detections=100,
        std=(1.0, 0.0, 1.0),
    )
    with pytest.raises(DetdistillError) as refused:
        refuse_impossible(known, layers("gfl"), ConfigReading())
    assert str(refused.value).splitlines() == [
        "these values cannot be:",
        "  anchors of the ratio 2.0; gfl has square ones",
        "  groups is 0",
        "  score_threshold is 1.5, not 0 to 1",
        "  std is (1.0, 0.0, 1.0)",
    ]
    mended = replace(known, anchor_ratios=(1.0,), groups=2, score_threshold=0.05, std=None)
    refuse_impossible(mended, layers("gfl"), ConfigReading())
