from __future__ import annotations

import pprint
from keyword import iskeyword
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.detectors.importing.config_text import Unread, read_config

KEYS = st.text("abcdefgh_", min_size=1, max_size=5).filter(lambda key: key not in ("_", "__") and not iskeyword(key))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@given(st.dictionaries(KEYS, PLAIN))
def test_plain_values_come_back(config: dict[str, Any]) -> None:
    text = "\n".join(f"{name} = {pprint.pformat(value)}" for name, value in config.items())
    assert read_config(text) == config


def test_dict_calls_and_earlier_variables() -> None:
    text = """
norm = dict(mean=[1.5, -2], to_rgb=False)
pipeline = [dict(type='Normalize', **norm), dict(type='Pad', pad_val=dict(img=0))]
data = {'test': dict(pipeline=pipeline), **dict(workers=2)}
"""
    steps = [{"type": "Normalize", "mean": [1.5, -2], "to_rgb": False}, {"type": "Pad", "pad_val": {"img": 0}}]
    assert read_config(text)["data"] == {"test": {"pipeline": steps}, "workers": 2}


def test_inherited_files_change_what_came_before() -> None:
    text = """/home/someone/configs/_base_/models/retinanet_r50_fpn.py
model = dict(
    type='RetinaNet',
    backbone=dict(depth=50, norm_cfg=dict(type='BN', eps=1)),
    neck=dict(type='FPN', num_outs=5))

/home/someone/configs/retinanet/retinanet_r50_caffe_fpn_1x_coco.py
_base_ = './retinanet_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(style='caffe', norm_cfg=dict(_delete_=True, type='SyncBN')),
    neck=dict(num_outs=4))
"""
    assert read_config(text)["model"] == {
        "type": "RetinaNet",
        "backbone": {"depth": 50, "style": "caffe", "norm_cfg": {"type": "SyncBN"}},
        "neck": {"type": "FPN", "num_outs": 4},
    }


def test_nothing_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    text = f"""
import os
os.system('touch {marker}')
model = dict(type='A', depth=open('{marker}', 'w'))
lr = 0.02 * 8
size = [1, __import__('os').system('touch {marker}')]
"""
    config = read_config(text)
    assert not marker.exists()
    assert config["model"]["type"] == "A"
    assert config["model"]["depth"] == Unread(f"open('{marker}', 'w')")
    assert config["lr"] == Unread("0.02 * 8")
    assert str(config["lr"]) == "the expression 0.02 * 8"


@pytest.mark.parametrize("text", ["model = dict(", "a = '\0'", "a = " + "(" * 5000, "-" * 100_000, "x" * 2_000_000])
def test_what_is_no_configuration(text: str) -> None:
    with pytest.raises(DetdistillError, match="the configuration"):
        read_config(text)
