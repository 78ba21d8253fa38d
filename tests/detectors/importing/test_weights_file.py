from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detdistill.core.errors import DetdistillError
from detdistill.detectors.importing.mmdet import import_mmdet
from detdistill.detectors.importing.weights_file import read_weights
from detdistill.detectors.saving import save_detector
from support.mmdet_files import CLASSES, checkpoint, mmdet_state, saved, small
from support.tiny_detector import tiny_detector

STATE = {"backbone.conv1.weight": torch.ones(2), "bbox_head.gfl_cls.weight": torch.zeros(3)}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_safetensors_are_known_by_content(name: str, tmp_path: Path) -> None:
    save_file({f"module.{key}": tensor for key, tensor in STATE.items()}, tmp_path / name)
    weights = read_weights(tmp_path / name)
    assert weights.state.keys() == STATE.keys()
    torch.save(STATE, tmp_path / "zip.safetensors")
    assert read_weights(tmp_path / "zip.safetensors").state.keys() == STATE.keys()


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_the_configuration_is_found_beside_nested_weights(place: str, tmp_path: Path) -> None:
    inner = {"state_dict": STATE} | ({"meta": {"epoch": 3}} if place == "inside" else {})
    outer = {"checkpoint": inner} | ({"meta": {"epoch": 3}} if place == "outside" else {})
    assert read_weights(saved(tmp_path, outer)).meta == {"epoch": 3}


def test_notes_of_both_choices(tmp_path: Path) -> None:
    state = {f"{owner}.{key}": tensor for owner in ("student", "teacher") for key, tensor in STATE.items()}
    weights = read_weights(saved(tmp_path, {"model": STATE, "model_ema": state}))
    assert len(weights.notes) == 2
    assert weights.state.keys() == STATE.keys()


def test_several_networks_are_refused_with_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path, {f"{owner}.{key}": tensor for owner in ("model", "net") for key, tensor in STATE.items()})
    with pytest.raises(DetdistillError, match=str(path)):
        read_weights(path)


def test_a_detector_of_our_own_needs_no_import(tmp_path: Path) -> None:
    save_detector(tiny_detector(), tmp_path / "run")
    for path in (tmp_path / "run", tmp_path / "run" / "model.safetensors"):
        with pytest.raises(DetdistillError, match="needs no import"):
            read_weights(path)
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes((tmp_path / "run" / "model.safetensors").read_bytes())
    with pytest.raises(DetdistillError, match="needs no import"):
        import_mmdet(copied)


def test_the_configuration_of_a_pair_is_that_of_its_student(tmp_path: Path) -> None:
    wrapper = "architecture"
    expected = small("gfl")
    content = checkpoint(expected)
    text = content["meta"]["cfg"].replace("model = dict(", f"model = dict(type='Pair', {wrapper}=dict(", 1)
    content["meta"]["cfg"] = text.replace("max_per_img=50))", "max_per_img=50)))")
    state = mmdet_state(expected)
    content["state_dict"] = {f"student.{name}": tensor for name, tensor in state.items()}
    imported = import_mmdet(saved(tmp_path, content))
    assert imported.detector.architecture.kind == "gfl"
    assert imported.detector.classes == CLASSES
    content["meta"]["cfg"] = f"model = dict(type='Pair', {wrapper}=dict(cfg_path='mmdet::gfl'))"
    with pytest.raises(DetdistillError, match="\n  mean: "):
        import_mmdet(saved(tmp_path, content))
