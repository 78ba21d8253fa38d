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


def nested(levels: int, form: str) -> str:
    """A few hundred bytes whose last variable stands for 10^levels values."""
    lines = ["a0 = 1" if "**" not in form else "a0 = dict(x=1)"]
    for level in range(1, levels + 1):
        names = [f"a{level - 1}"] * 10
        keys = [f"k{number}" for number in range(10)]
        lines.append(
            f"a{level} = "
            + form.format(
                names=", ".join(names),
                pairs=", ".join(f"{key!r}: {name}" for key, name in zip(keys, names, strict=True)),
                keywords=", ".join(f"{key}={name}" for key, name in zip(keys, names, strict=True)),
                merged=", ".join(f"**{name}" for name in names),
            )
        )
    return "\n".join(lines)


@pytest.mark.parametrize(
    "form", ["[{names}]", "({names})", "{{{pairs}}}", "dict({keywords})", "[[{names}]]", "dict(a=[{names}])"]
)
def test_names_that_stand_for_billions_of_values_are_refused(form: str) -> None:
    with pytest.raises(DetdistillError, match="values"):
        read_config(nested(11, form))
    assert read_config(nested(2, form))["a2"]


def test_a_second_file_does_not_start_the_count_anew() -> None:
    file = "/configs/base.py\n" + nested(5, "[{names}]")
    with pytest.raises(DetdistillError, match="values"):
        read_config("\n".join([file] * 12))


@pytest.mark.parametrize(
    "text", ["\n".join(["a0 = 1", *(f"a{n} = [a{n - 1}]" for n in range(1, 2_000))]), "a = " + "[" * 80 + "]" * 80]
)
def test_deeply_nested_values_are_refused(text: str) -> None:
    with pytest.raises(DetdistillError, match="levels"):
        read_config(text)


@pytest.mark.parametrize(
    "text", ["a = " + "9" * 5_000, "a = " + "[" * 10_000, "a = " + "-" * 50_000 + "1", "a = '\\ud800'\x00"]
)
def test_what_python_cannot_parse_is_an_error(text: str) -> None:
    with pytest.raises(DetdistillError):
        read_config(text)


def test_a_long_expression_is_shortened() -> None:
    value = read_config("a = f('" + "x" * 100_000 + "')")["a"]
    assert isinstance(value, Unread)
    assert len(value.source) <= 200
