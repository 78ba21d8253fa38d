from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detdistill.core.errors import DetdistillError
from detdistill.training.machine import check_device, device_beside_training
from detdistill.training.recipe import Machine, Start
from detdistill.training.run import train
from support.small_runs import small_recipe, write_boxes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": Machine("toaster")}, "machine: accelerator toaster, devices 1, .* invalid accelerator name"),
        ({"machine": Machine("cpu", strategy="ddpp")}, "strategy ddpp cannot be had here"),
        ({"machine": Machine("cpu", precision="fp16")}, "precision fp16 needs a GPU"),
        (
            {"machine": Machine("cpu", devices=2), "start": Start(batch_norm="sync")},
            "batch_norm sync needs GPUs",
        ),
        ({"machine": Machine("cpu", precision="bf16")}, "channels_last damages memory .*1x1, stride 2, under 16"),
    ],
)
def test_what_the_machine_cannot_do_is_told_before_training(
    changes: dict[str, Any], said: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DetdistillError, match=said):
        train(small_recipe(data, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "resume" / "state.ckpt").exists()


@pytest.mark.parametrize("has_amx", [False, True])
def test_a_processor_on_which_bf16_is_slow_is_told(
    has_amx: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    known = {"architecture": "x86_64", "amx_bf16": has_amx, "avx512_bf16": True}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: known)
    recipe = small_recipe(tmp_path, machine=Machine("cpu", precision="bf16", channels_last=False))
    check_device(recipe, torch.device("cpu"), nn.Conv2d(3, 3, 1))
    assert ("use machine.precision float32" in capsys.readouterr().err) is not has_amx


def test_older_torch_cannot_tell_what_is_slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr("torch.cpu.get_capabilities")
    recipe = small_recipe(tmp_path, machine=Machine("cpu", precision="bf16", channels_last=False))
    check_device(recipe, torch.device("cpu"), nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize(
    ("accelerator", "gpus", "device"), [("cpu", 1, "cpu"), ("gpu", 1, "cuda:0"), ("auto", 0, "cpu")]
)
def test_teachers_are_scored_on_a_gpu_unless_the_recipe_says_cpu(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, gpus: int, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert str(device_beside_training(Machine(accelerator))) == device
