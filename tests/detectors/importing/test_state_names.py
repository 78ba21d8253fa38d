from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.detectors.importing.state_names import EVERYWHERE, network_names

KEYS = (
    *("backbone.conv1.weight", "backbone.layer1.0.bn1.running_mean", "neck.fpn_convs.0.conv.bias"),
    *(
        "bbox_head.cls_convs.0.conv.weight",
        "bbox_head.gfl_cls.weight",
        "backbone.model.x",
        "backbone.module.ema.student",
    ),
)
WRAPPERS = ("module", "_orig_mod", "model", "net", "detector", "architecture", "ema", "ema_model", "student", "wrapped")


@given(st.lists(st.sampled_from(WRAPPERS), max_size=4), st.booleans())
def test_any_nesting_of_wrappers_is_removed(wrappers: list[str], compiled: bool) -> None:
    def wrapped(key: str) -> str:
        inner = key.replace("layer1.", "layer1._orig_mod.") if compiled else key
        return ".".join([*wrappers, inner])

    found = network_names([wrapped(key) for key in KEYS])
    assert found.names == {key: wrapped(key) for key in KEYS}
    assert not found.notes


@given(st.sets(st.text("abm._", min_size=1).filter(lambda key: not set(key.split(".")) & set(EVERYWHERE))))
def test_names_without_wrappers_stay(keys: set[str]) -> None:
    own = {f"backbone.{key}" for key in keys}
    assert network_names(own).names == {key: key for key in own}


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("student.", "teacher."),
        ("model.student.module.", "model.teacher.module."),
        ("architecture.", "teacher."),
        ("ema.module.", "model."),
        ("ema_model.", "online_model."),
        ("ema.", ""),
        ("student.", "ema."),
    ],
)
def test_of_two_networks_one_is_taken_and_a_note_names_both(taken: str, left: str) -> None:
    found = network_names([*(left + key for key in KEYS), *(taken + key for key in KEYS)])
    assert found.names == {key: taken + key for key in KEYS}
    (note,) = found.notes
    assert taken.replace("module.", "") in note
    assert (left.replace("module.", "") or "without a prefix") in note


def test_additions_and_counters_are_left_out() -> None:
    wrapped = [f"model.{key}" for key in KEYS]
    found = network_names([*wrapped, "criterion.weight", "n_averaged"])
    assert list(found.names.values()) == wrapped
    assert len(found.notes) == 1
    assert list(network_names(["n_averaged", *(f"module.{key}" for key in KEYS)]).names) == list(KEYS)


def test_only_a_teacher_is_taken_with_a_note() -> None:
    found = network_names([f"teacher.{key}" for key in KEYS])
    assert list(found.names) == list(KEYS)
    assert "teacher." in found.notes[0]


def test_averages_named_with_an_underscore() -> None:
    assert list(network_names([f"ema_{key}" for key in KEYS]).names) == list(KEYS)
    assert list(network_names([f"module.ema_module.{key}" for key in KEYS]).names) == list(KEYS)
    both = network_names([*KEYS, *(f"ema_{key.replace('.', '_')}" for key in KEYS)])
    assert list(both.names) == list(KEYS)
    assert len(both.notes) == 1


@pytest.mark.parametrize("prefixes", [("model.", "net."), ("first.", "second."), ("", "model."), ("", "module.")])
def test_two_networks_without_a_preference_are_refused(prefixes: tuple[str, str]) -> None:
    with pytest.raises(DetdistillError):
        network_names([prefix + key for prefix in prefixes for key in KEYS])
