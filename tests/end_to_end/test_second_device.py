"""Nothing here has a GPU. A stand-in tells whether tensors of two devices ever meet, from first step to last page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args
from unittest.mock import patch

import numpy as np
import pytest
import torch
from lightning_fabric.accelerators.cpu import CPUAccelerator
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from safetensors.torch import load_file

from detdistill.analysis.measure import measure
from detdistill.analysis.page import write_analysis
from detdistill.core.image_options import ImageOptions
from detdistill.data.opening import open_dataset
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.choices import HeadName
from detdistill.distill.distiller import Distiller
from detdistill.distill.memory import TeacherMemory
from detdistill.distill.methods import supported_heads
from detdistill.distill.term import OPINIONS
from detdistill.distill.terms import TERMS
from detdistill.report.drawing import draw_detections
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.training import distilled
from detdistill.training.run import distill, train
from distill.terms.test_every_term import EVERY_HEAD, OPTIONS
from support.pairs import confident
from support.second_device import second_device
from support.small_runs import small_distillation, small_recipe, write_boxes, write_teacher
from support.term_cases import batch
from support.tiny_detector import tiny_detector


@pytest.fixture
def device() -> Iterator[torch.device]:
    with second_device() as device:
        yield device


@contextmanager
def training_there() -> Iterator[None]:
    """Fabric takes the second device for the CPU."""
    connector = "lightning_fabric.connector.SingleDeviceStrategy"
    with (
        second_device() as device,
        patch(connector, lambda **_: SingleDeviceStrategy(device)),
        patch.object(CPUAccelerator, "setup_device"),
        patch.object(distilled, "device_beside_training", lambda _: device),
    ):
        yield


def test_the_stand_in_refuses_what_a_gpu_refuses(device: torch.device) -> None:
    here, there = torch.ones(2), torch.ones(2, device=device)
    assert there.device == device
    assert (there * 2 + torch.tensor(1.0)).sum().item() == 6
    assert there[torch.tensor([1])].to("cpu").tolist() == [1]
    with pytest.raises(RuntimeError, match="on two devices"):
        there + here
    with pytest.raises(RuntimeError, match="on two devices"):
        torch.cat((there, here))
    with pytest.raises(RuntimeError, match="on two devices"):
        here[there > 0]
    with pytest.raises(TypeError, match="copy it to the CPU first"):
        there.numpy()


@pytest.mark.parametrize("head", get_args(HeadName))
def test_every_head_learns_and_detects(device: torch.device, head: HeadName) -> None:
    detector = tiny_detector(head).to(device)
    images, targets = batch(2)
    targets = targets.to(device)
    output = detector(detector.input.normalization(images.to(device), targets.sizes))
    losses = detector.loss(output, targets, detector.match(output, targets))
    torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
    assert {parameter.grad.device for parameter in detector.parameters() if parameter.grad is not None} == {device}
    assert {one.boxes.device for one in detector.detect(output, targets.sizes)} == {device}


@pytest.mark.parametrize("head", get_args(HeadName))
def test_detectors_are_checked_and_find_things_in_pictures(device: torch.device, head: HeadName) -> None:
    detector = confident(tiny_detector(head)).to(device)
    check_detector(detector)
    picture = np.full((50, 60, 3), 90, dtype=np.uint8)
    (found,) = detector.predict([picture], size=ImageOptions(short_side=64, long_side=64), threshold=0)
    assert len(found)
    draw_detections(picture, found, detector.classes)


@pytest.mark.parametrize(("name", "head"), [(name, supported_heads(TERMS[name].method)[0]) for name in TERMS])
def test_every_term_learns(device: torch.device, name: str, head: str) -> None:
    learns(device, name, head)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), EVERY_HEAD)
def test_every_term_learns_with_every_head(device: torch.device, name: str, head: str) -> None:
    learns(device, name, head)


@pytest.mark.parametrize("name", [name for name in TERMS if OPINIONS in TERMS[name].method.teacher])
def test_terms_learn_by_opinion(device: torch.device, name: str) -> None:
    learns(device, name, "fcos", teacher="retinanet", source="opinion")


def learns(device: torch.device, name: str, head: str, teacher: str | None = None, **options: Any) -> None:
    student = tiny_detector(cast(HeadName, head)).to(device)
    other = confident(tiny_detector(cast(HeadName, teacher or head), seed=1)).to(device)
    term = TERMS[name](**OPTIONS.get(name, {}) | options)
    learner = Distiller(student, other, {name: term}, memory=TeacherMemory(100)).train()
    images, targets = batch(2)
    for step in range(2):
        learner.begin_step(step, 10, 0)
        losses = learner(images.to(device), targets.to(device))
        torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
        learner.end_step()
    assert {loss.device for loss in losses.values()} == {device}
    assert {parameter.grad.device for parameter in learner.parameters() if parameter.grad is not None} == {device}


def test_a_run_is_the_same_there_and_goes_on_there(tmp_path: Path) -> None:
    recipe = small_recipe(write_boxes(tmp_path / "data"), epochs=2)
    longer = replace(recipe, schedule=replace(recipe.schedule, epochs=3))
    train(recipe, tmp_path / "here")
    train(longer, tmp_path / "here", resume=True)
    with training_there():
        train(recipe, tmp_path / "there")
        train(longer, tmp_path / "there", resume=True)
    assert_same(tmp_path)


@pytest.mark.parametrize(
    ("teacher", "changes"),
    [
        ({}, {"epochs": 1}),
        ({"classes": ("blue", "red", "green"), "extra_levels": 0}, {"epochs": 1, "accumulate": 2}),
        (
            {"channels": 16},
            {
                "epochs": 2,  # the second one reads the memory
                "init_from_teacher": ("pyramid", "head"),
                "images": ImageOptions(letterbox=64),
                "memory": 100,
            },
        ),
    ],
)
def test_a_distillation_is_the_same_there(tmp_path: Path, teacher: dict[str, Any], changes: dict[str, Any]) -> None:
    data, other = write_boxes(tmp_path / "data"), write_teacher(tmp_path / "teacher", **teacher)
    recipe = small_distillation(data, other, **changes)
    distill(recipe, None, tmp_path / "here")
    with training_there():
        distill(recipe, None, tmp_path / "there")
    assert_same(tmp_path)


def assert_same(folder: Path) -> None:
    here, there = (load_file(folder / place / "model.safetensors") for place in ("here", "there"))
    torch.testing.assert_close(there, here, rtol=0, atol=0)


def test_an_analysis_is_the_same_there(tmp_path: Path) -> None:
    dataset = open_dataset(write_boxes(tmp_path / "data"), "val")
    detectors = [tiny_detector("retinanet", ("green", "red"), seed=seed) for seed in (0, 1)]
    images = ImageOptions(short_side=64, long_side=64)

    def analyze(place: str) -> None:
        teacher, student = detectors
        write_analysis(measure(DetectorTeacher(teacher), {"student": student}, dataset, images), tmp_path / place)

    analyze("here")
    with second_device() as device:
        for detector in detectors:
            detector.to(device)
        analyze("there")
    here, there = ((tmp_path / place / "analysis.json").read_text() for place in ("here", "there"))
    assert there == here
