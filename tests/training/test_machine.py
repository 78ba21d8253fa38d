from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.image_options import ImageOptions
from detdistill.training.machine import check_device, check_processes, device_beside_training, told_errors
from detdistill.training.recipe import Data, Machine, Recipe, Start
from detdistill.training.run import train
from support.small_runs import small_recipe, write_boxes

BF16 = Recipe(Data("anywhere"), machine=Machine("cpu", precision="bf16", channels_last=False))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"machine": Machine("toaster", precision="float32", threads=1)},
            "machine: accelerator toaster, devices 1, nodes 1 is not available",
        ),
        ({"machine": Machine("cpu", precision="fp16", threads=1)}, "precision fp16 needs a GPU"),
        (
            {"machine": Machine("cpu", devices=2, precision="float32", threads=1), "start": Start(batch_norm="sync")},
            "batch_norm sync needs GPUs",
        ),
        (
            {"machine": Machine("cpu", precision="bf16", threads=1)},
            "channels_last damages memory .*1x1, stride 2, under 16",
        ),
    ],
)
def test_what_the_machine_cannot_do_is_told_before_training(
    changes: dict[str, Any], said: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DetdistillError, match=said):
        train(small_recipe(data, **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "resume" / "state.ckpt").exists()


@pytest.mark.parametrize(
    ("instructions", "is_told"), [({}, True), ({"avx512_bf16": True}, False), ({"amx_bf16": True}, False)]
)
def test_a_processor_on_which_bf16_is_slow_is_told(
    instructions: dict[str, bool], is_told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"architecture": "x86_64", "amx_bf16": False, "avx512_bf16": False, **instructions}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: known)
    check_device(BF16, torch.device("cpu"), nn.Conv2d(3, 3, 1))
    assert ("machine.precision" in capsys.readouterr().err) is is_told


def test_older_torch_cannot_tell_what_is_slow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("torch.cpu.get_capabilities")
    check_device(BF16, torch.device("cpu"), nn.Conv2d(3, 3, 1))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("accelerator", "gpus", "device"), [("cpu", 1, "cpu"), ("gpu", 1, "cuda:0"), ("auto", 0, "cpu")]
)
def test_teachers_are_scored_on_a_gpu_unless_the_recipe_says_cpu(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, gpus: int, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert str(device_beside_training(Machine(accelerator))) == device


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "1",
    "GROUP_RANK": "0",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "WORLD_SIZE": "2",
}


@pytest.mark.parametrize("environment", [TORCHRUN, {"SLURM_STEP_NUM_TASKS": "2"}], ids=["torchrun", "srun"])
def test_as_many_processes_are_started_as_the_recipe_has(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check_processes(Machine("cpu", devices=2))
    check_processes(Machine("cpu", nodes=2))
    for devices in (1, 4):
        with pytest.raises(DetdistillError, match=f"has started 2 processes, .* machine.devices {devices}"):
            check_processes(Machine("cpu", devices=devices))
    with pytest.raises(DetdistillError, match="has started 2 processes"):
        train(small_recipe(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "accumulate"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "accumulate"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:1"), "another process"),
        (torch.distributed.DistBackendError("NCCL error"), "another process"),
    ],
)
def test_what_torch_raises_is_told_with_the_way_out(error: Exception, said: str) -> None:
    with pytest.raises(DetdistillError, match=said), told_errors():
        raise error


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError(""), KeyError("a")])
def test_bugs_are_not_told_as_something_else(error: Exception) -> None:
    with pytest.raises(type(error)), told_errors():
        raise error


def test_one_device_is_not_several() -> None:
    with pytest.raises(SettingsError, match=r"machine.strategy single_device is one process"):
        Recipe(data=Data("anywhere"), batch_size=4, machine=Machine("cpu", devices=2, strategy="single_device"))


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_notebook", "ddp_spawn", "fsdp", "xla", "deepspeed", "dp"])
def test_other_strategies_are_refused_by_name(strategy: str) -> None:
    with pytest.raises(SettingsError, match=f"strategy must be one of auto, single_device, ddp, not '{strategy}'"):
        Machine("cpu", strategy=strategy)  # type: ignore[arg-type]


def test_a_map_of_one_value_is_told(tmp_path: Path) -> None:
    """The last pyramid level of an image of 32 px is one cell: with one image, one value for batch norm."""
    small = write_boxes(tmp_path / "small", train=1, side=32)
    recipe = small_recipe(small, batch_size=1, images=ImageOptions(letterbox=32))
    with pytest.raises(DetdistillError, match="batch norm has a single value"):
        train(recipe, tmp_path / "run")
