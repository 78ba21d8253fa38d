from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detdistill.core.teacher_size import TeacherSize
from detdistill.training.distillation_settings import Unlabelled
from detdistill.training.recipe import Machine, Optimization, Recipe, Start
from detdistill.training.run import distill
from support.processes import run_two
from support.small_runs import (
    largest_difference,
    lines,
    recorded_gradients,
    small_distillation,
    taught_otherwise,
    write_boxes,
    write_confident_teacher,
    write_teacher,
)

TERMS = ("rank_mimicking", "prediction_guided", "hint")


def recipe(folder: Path, processes: int) -> Recipe:
    """Weights are found in the first step, so they count from the second one on; the teacher reads larger images."""
    return small_distillation(
        folder / "data",
        folder / "teacher",
        epochs=1,
        batch_size=2,
        start=Start(batch_norm="frozen"),
        optimization=Optimization(learning_rate=1e-3),
        teacher_images=TeacherSize(letterbox=128),
        machine=Machine("cpu", workers=0, devices=processes, precision="float32", threads=1),
    )


def process(rank: int, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        gradients = recorded_gradients(patch)
        distill(recipe(folder, 2), None, folder / "two")
    torch.save(gradients, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two gloo processes did; a third of the images has no object."""
    folder = tmp_path_factory.mktemp("gloo")
    write_boxes(folder / "data", train=9)
    write_teacher(folder / "teacher")
    assert run_two(process, folder) == [0, 0]
    return folder


def test_gradients_and_weights_are_those_of_one_process_on_the_joined_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = recorded_gradients(monkeypatch)
    distill(recipe(folder, 1), None, folder / "one")
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert len(first) == len(second) == len(expected) == 5
    for found, other, one in zip(first, second, expected, strict=True):
        assert any(".adapters." in name for name in found)
        assert all(torch.equal(value, other[name]) for name, value in found.items())
        assert largest_difference(found, one) < 1e-5
    logged, alone = ([line for line in lines(folder / name) if "loss" in line] for name in ("two", "one"))
    for found, one in zip(logged, alone, strict=True):
        for name in TERMS:
            # A KL divergence is a sum of differences of logarithms, which round at 1e-7.
            rounding = 1e-6 if name == "rank_mimicking" else 0
            assert found[f"{name}/raw"] == pytest.approx(one[f"{name}/raw"], rel=1e-4, abs=rounding)
            assert found[f"{name}/weight"] == pytest.approx(one[f"{name}/weight"], rel=1e-4)
            assert found[f"{name}/raw"] > 0
    assert all(line[name] > 0 for line in logged[1:] for name in TERMS)


def with_unlabelled(folder: Path, processes: int) -> Recipe:
    """Of four images of a step, two are annotated."""
    unlabelled = Unlabelled(str(folder / "more" / "train"), threshold=0.3)
    return replace(taught_otherwise(recipe(folder, processes), unlabelled=unlabelled), batch_size=4)


def unlabelled_process(rank: int, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        gradients = recorded_gradients(patch)
        distill(with_unlabelled(folder, 2), None, folder / "two")
    torch.save(gradients, folder / f"{rank}.pt")


@pytest.mark.slow
def test_unlabelled_images_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_boxes(tmp_path / "data", train=7)
    write_boxes(tmp_path / "more", train=5, side=80)
    write_confident_teacher(tmp_path / "teacher")
    assert run_two(unlabelled_process, tmp_path) == [0, 0]
    expected = recorded_gradients(monkeypatch)
    distill(with_unlabelled(tmp_path, 1), None, tmp_path / "one")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert len(first) == len(expected) == 4
    for found, other, one in zip(first, second, expected, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in found.items())
        assert largest_difference(found, one) < 1e-5
    logged, alone = ([line for line in lines(tmp_path / name) if "loss" in line] for name in ("two", "one"))
    for found, one in zip(logged, alone, strict=True):
        assert found["pseudo_classification"] == pytest.approx(one["pseudo_classification"], rel=1e-4)
        assert found["pseudo_classification"] > 0
