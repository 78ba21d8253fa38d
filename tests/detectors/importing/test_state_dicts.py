from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.detectors.importing.checkpoint_opening import open_checkpoint
from detdistill.detectors.importing.state_dicts import AVERAGES, NETWORKS, find_state_dict, locate_state_dict
from support.mmdet_files import saved

STATE = {"backbone.weight": torch.ones(2)}
OTHER = {"backbone.weight": torch.zeros(2)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize("key", [*NETWORKS, *AVERAGES, "my_own_name"])
def test_any_usual_key_holds_the_state_dict(key: str) -> None:
    for content in ({key: STATE}, {key: STATE, "optimizer": OPTIMIZER, "epoch": 3}, {"checkpoint": {key: STATE}}):
        located = locate_state_dict(content)
        assert located is not None
        assert located.state is STATE
        assert located.place[-1] == key
        assert not located.notes


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"student": STATE, "teacher": OTHER}, ("student",)),
        ({"model": OTHER, "model_ema": STATE}, ("model_ema",)),
        ({"state_dict": OTHER, "state_dict_ema": STATE}, ("state_dict_ema",)),
        ({"model": OTHER, "ema": {"module": STATE, "updates": 3}}, ("ema", "module")),
        ({"state_dict": OTHER, "ema_state_dict": STATE}, ("ema_state_dict",)),
        ({"state_dict": STATE, "ema_state_dict": OTHER, "meta": {}}, ("state_dict",)),
        ({"state_dict": STATE, "ema_state_dict": OTHER | {"steps": torch.ones(())}}, ("state_dict",)),
    ],
)
def test_of_two_state_dicts_one_is_taken_and_a_note_says_which(content: Any, place: tuple[str, ...]) -> None:
    located = locate_state_dict(content)
    assert located is not None
    assert located.place == place
    assert located.state is STATE
    assert len(located.notes) == 1
    assert ".".join(place) in located.notes[0]


@pytest.mark.parametrize(
    "content", [{"optimizer": OPTIMIZER}, {"a": STATE, "b": STATE}, {"teacher": STATE}, [STATE], 3]
)
def test_nothing_is_guessed(content: Any) -> None:
    assert locate_state_dict(content) is None


def save_zip(module: object, path: Path) -> None:
    torch.save(module, path)


def save_legacy(module: object, path: Path) -> None:
    torch.save(module, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("nested", [False, True])
def test_whole_models_are_read_without_their_code(
    save: Callable[[object, Path], None], nested: bool, tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    model.register_buffer("scale", torch.ones(1), persistent=False)
    path = tmp_path / "model.pth"
    save({"model": model, "epoch": 1} if nested else model, path)
    found = find_state_dict(open_checkpoint(path), path)
    expected: dict[str, Tensor] = model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


class NoModule:
    """An object without weights."""


def test_an_object_without_weights_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, NoModule())
    with pytest.raises(DetdistillError, match=r"NoModule.*state_dict\(\)"):
        find_state_dict(open_checkpoint(path), path)


def test_modules_that_contain_each_other_end(tmp_path: Path) -> None:
    module = nn.Module()
    module._modules["inner"] = module
    path = saved(tmp_path, module)
    with pytest.raises(DetdistillError, match="is damaged"):
        find_state_dict(open_checkpoint(path), path)
    shared = nn.Module()
    for _ in range(50):
        outer = nn.Module()
        outer._modules |= {"a": shared, "b": shared}
        shared = outer
    path = saved(tmp_path, shared)
    with pytest.raises(DetdistillError, match="is damaged"):
        find_state_dict(open_checkpoint(path), path)


def test_tensors_of_more_dimensions_than_torch_has_are_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(DetdistillError, match="a: 70 dimensions"):
        find_state_dict(open_checkpoint(path), path)
