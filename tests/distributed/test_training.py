from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.normalization import Normalization
from detdistill.core.structures import ReduceSum
from detdistill.data.loading import Batch
from detdistill.detectors.base import Detector
from detdistill.training.interruption import Interrupted
from detdistill.training.loop import Loop
from detdistill.training.materials import starting_detector
from detdistill.training.recipe import Machine, Optimization, Recipe, Start
from detdistill.training.run import train
from support.processes import run_two
from support.small_runs import lines, recorded_gradients, small_recipe, state, write_boxes

ONE = Machine(accelerator="cpu", workers=0, precision="float32", threads=1)
TWO = replace(ONE, devices=2, strategy="ddp")


def recipe(data: Path, batch_size: int, accumulate: int, machine: Machine) -> Recipe:
    return small_recipe(
        data,
        epochs=1,
        batch_size=batch_size,
        accumulate=accumulate,
        start=Start(batch_norm="frozen"),
        optimization=Optimization(),
        machine=machine,
    )


def in_float64(patch: pytest.MonkeyPatch) -> None:
    """Float32's rounding would hide a small mistake in a normaliser."""
    normalize = Normalization.__call__

    def in_double(self: Normalization, images: Tensor, sizes: Tensor) -> Tensor:
        return normalize(self, images, sizes).double()

    def double_detector(recipe: Recipe, classes: Sequence[str], own: Detector | None) -> Detector:
        return starting_detector(recipe, classes, own).double()

    patch.setattr(Normalization, "__call__", in_double)
    patch.setattr("detdistill.training.run.starting_detector", double_detector)
    patch.setattr("detdistill.training.scores.save_detector", lambda *_, **__: None)  # which takes float32 only


IMAGES = 9
"""An odd number: in one step of two images, one process has none."""
CASES = {"one image each": (2, 1), "two parts each": (4, 2)}
"""Images a step, and parts of each process."""


def run_all(rank: int, folder: Path) -> None:
    said: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for case, (batch_size, accumulate) in CASES.items():
            in_float64(patch)
            said[case] = recorded_gradients(patch)
            train(recipe(folder / "data", batch_size, accumulate, TWO), folder / f"two, {case}")
            patch.undo()
    said["objects"] = count_objects(folder)
    said["stopped"] = stopped_by_one(rank, folder)
    said["differing"] = refused_by_all(rank, folder)
    torch.save(said, folder / f"{rank}.pt")


def count_objects(folder: Path) -> list[int]:
    """How many objects this process sees in each step."""
    seen: list[int] = []

    def count(_: object, batch: Batch) -> None:
        seen.append(len(batch.targets.labels))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "batch_losses", watched(count))
        train(recipe(folder / "data", 2, 1, TWO), folder / "counted")
    return seen


def stopped_by_one(rank: int, folder: Path) -> str:
    """Only process 1 gets the signal, in its third step."""

    def stop(module: Loop, _: object) -> None:
        if rank == 1 and module.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "batch_losses", watched(stop))
        with pytest.raises(Interrupted) as stopped:
            train(recipe(folder / "data", 2, 1, TWO), folder / "stopped")
    train(recipe(folder / "data", 2, 1, TWO), folder / "stopped")
    return str(stopped.value)


def refused_by_all(rank: int, folder: Path) -> list[str]:
    """Process 1 has another recipe, then other images under the same name."""
    texts = []
    other = recipe(folder / "data", 2 if rank == 0 else 4, 1, TWO)
    with pytest.raises(DetdistillError) as refused:
        train(other, folder / "other recipe")
    texts.append(str(refused.value))
    os.chdir(folder if rank == 0 else folder / "elsewhere")
    with pytest.raises(DetdistillError) as refused:
        train(recipe(Path("data"), 2, 1, TWO), folder / "other images")
    texts.append(str(refused.value))
    return texts


def watched(look: Callable[[Loop, Any], None]) -> Callable[..., dict[str, Tensor]]:
    losses = Loop.batch_losses

    def looking(self: Loop, batch: Any, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        look(self, batch)
        return losses(self, batch, reduce_sum)

    return looking


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two gloo processes did."""
    folder = tmp_path_factory.mktemp("gloo")
    write_boxes(folder / "data", train=IMAGES)
    write_boxes(folder / "elsewhere" / "data", train=IMAGES - 1)
    assert run_two(run_all, folder) == [0, 0]
    return folder


def said(folder: Path, rank: int) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / f"{rank}.pt", weights_only=True)
    return content


def test_objects_are_unequal_and_one_process_sees_none(folder: Path) -> None:
    pairs = list(zip(said(folder, 0)["objects"], said(folder, 1)["objects"], strict=True))
    assert any(0 in pair and sum(pair) > 0 for pair in pairs), pairs


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_one_process_on_the_joined_batch(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_size, _ = CASES[case]
    in_float64(monkeypatch)
    expected = recorded_gradients(monkeypatch)
    train(recipe(folder / "data", batch_size, 1, ONE), tmp_path / "one")
    first, second = (said(folder, rank)[case] for rank in range(2))
    assert len(first) == len(second) == len(expected) == -(-IMAGES // batch_size)
    for found, other, one in zip(first, second, expected, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in found.items())
        assert found.keys() == one.keys()
        for name, value in found.items():
            assert value.dtype == torch.float64
            assert (value - one[name]).abs().max() <= 1e-9 * one[name].abs().max(), name
    logged, alone = (lines(path) for path in (folder / f"two, {case}", tmp_path / "one"))
    assert [line["step"] for line in logged] == [line["step"] for line in alone]
    assert [line.get("AP") for line in logged] == [line.get("AP") for line in alone]
    losses = [[line["loss"] for line in written if "loss" in line] for written in (logged, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(("number", "expected"), [(0, "batch_size: 2 -> 4"), (1, "another training set")])
def test_processes_that_differ_all_say_so(number: int, expected: str, folder: Path) -> None:
    for rank in range(2):
        text = said(folder, rank)["differing"][number]
        assert text.startswith("process 1 has another")
        assert expected in text
    assert not list(folder.glob("other */resume/state.ckpt"))


def test_a_signal_to_one_process_stops_both_after_the_same_step(folder: Path) -> None:
    assert [said(folder, rank)["stopped"].split(";")[0] for rank in range(2)] == ["stopped by SIGTERM after step 3"] * 2
    resumed, whole = state(folder / "stopped"), state(folder / "counted")
    assert resumed["step"] == whole["step"] == 5
    assert all(torch.equal(value, whole["task"][name]) for name, value in resumed["task"].items())
