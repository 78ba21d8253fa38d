from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from detdistill.core.image_options import ImageOptions
from detdistill.core.structures import ReduceSum
from detdistill.data.loading import Batch
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.saving import save_detector
from detdistill.training.distillation_settings import Distillation
from detdistill.training.loop import Loop
from detdistill.training.recipe import Data, Evaluation, Logging, Machine, Optimization, Recipe, Schedule
from support.pairs import confident
from support.tiny_detector import layers, tiny_detector

TINY = layers(backbone_width=0.125, channels=16, towers=Towers(depth=1))


def write_boxes(folder: Path, *, train: int = 8, val: int = 4, side: int = 64, **others: int) -> Path:
    """A COCO folder of noise with filled rectangles of two classes; every third image of `train` has none."""
    for part, count in {"train": train, "val": val, **others}.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(len(part))
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            pixels = random.integers(0, 90, (side, side, 3), dtype=np.uint8)
            for _ in range(0 if part == "train" and index % 3 == 2 else random.integers(1, 4)):
                (x, y), (width, height) = random.integers(0, side // 2, 2), random.integers(12, side // 2, 2)
                label = int(random.integers(2))
                pixels[y : y + height, x : x + width] = (250, 60, 60) if label else (60, 250, 60)
                box = [int(value) for value in (x, y, width, height)]
                area = box[2] * box[3]
                entry = {"id": len(annotations) + 1, "image_id": index, "category_id": label + 1, "bbox": box}
                annotations.append({**entry, "area": area, "iscrowd": 0})
            Image.fromarray(pixels).save(folder / part / f"{index}.png")
            images.append({"id": index, "file_name": f"{index}.png", "width": side, "height": side})
        categories = [{"id": 1, "name": "green"}, {"id": 2, "name": "red"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return folder


def small_recipe(data: Path, *, epochs: int = 3, workers: int = 0, **changes: Any) -> Recipe:
    """Two steps per epoch with the data of `write_boxes`: seconds."""
    recipe = Recipe(
        data=Data(str(data)),
        detector=TINY,
        images=ImageOptions(letterbox=64, scale_jitter=(0.7, 1.3), photometric=0.5),
        batch_size=4,
        schedule=Schedule(epochs=epochs, warmup_steps=2, milestones=(2,)),
        optimization=Optimization(ema=0.9, clip_norm=1.0),
        evaluation=Evaluation(),
        machine=Machine(accelerator="cpu", workers=workers, precision="float32", threads=1),
        logging=Logging(every=1, page=False),
    )
    return replace(recipe, **changes)


def write_teacher(folder: Path, classes: Sequence[str] = ("green", "red"), **changes: Any) -> Path:
    """A run folder with a detector of random weights; its features have other channels than a small student's."""
    save_detector(tiny_detector("gfl", classes, **{"seed": 1, "channels": 24} | changes), folder)
    return folder


def small_distillation(data: Path, teacher: Path, **changes: Any) -> Recipe:
    """`small_recipe` with three methods, two of which need adapters; keywords such as `terms` are of `distill`."""
    options: dict[str, Any] = {"terms": {"rank_mimicking": {}, "prediction_guided": {}, "hint": {}}}
    own = {field.name for field in fields(Distillation)}
    options |= {name: changes.pop(name) for name in own & changes.keys()}
    return small_recipe(data, distill=Distillation(str(teacher), **{"accept_teacher": True, **options}), **changes)


def write_confident_teacher(folder: Path) -> Path:
    """The same, with scores of every height."""
    save_detector(confident(tiny_detector("gfl", ("green", "red"), seed=1, channels=24)), folder)
    return folder


def taught_otherwise(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe of a distillation with other keys of `distill`."""
    return replace(recipe, distill=replace(recipe.distillation, **changes))


def lines(folder: Path) -> list[dict[str, Any]]:
    """What `metrics.jsonl` says."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict[str, Any]:
    """The resumable checkpoint."""
    content: dict[str, Any] = torch.load(folder / "resume" / "state.ckpt", weights_only=True)
    return content


def assert_equal_runs(one: Path, other: Path) -> None:
    """Weights, averages, adapters, optimiser, kept detector and log are equal to the last bit."""
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert (one / "model.json").read_text() == (other / "model.json").read_text()
    assert lines(one) == lines(other)
    first, second = state(one), state(other)
    for part in ("step", "schedule", "scores"):
        assert first[part] == second[part]
    # What terms know of their weights stands among the tensors, in plain types.
    plain = [
        {name: value for name, value in content["task"].items() if isinstance(value, dict)}
        for content in (first, second)
    ]
    assert plain[0] == plain[1]
    tensors = [
        {name: value for name, value in content["task"].items() if not isinstance(value, dict)}
        for content in (first, second)
    ]
    for content, found in zip((first, second), tensors, strict=True):
        found.update({f"average {name}": value for name, value in (content["average"] or {}).items()})
        moments = content["optimizer"]["state"]
        found.update({f"{index} {name}": value for index, own in moments.items() for name, value in own.items()})
    assert tensors[0].keys() == tensors[1].keys()
    different = [name for name, value in tensors[0].items() if not torch.equal(value, tensors[1][name])]
    assert different == []


def recorded_gradients(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The list to which every step from now on adds its gradient by parameter, before clipping."""
    steps: list[dict[str, torch.Tensor]] = []
    clip = Loop._clip

    def record(self: Loop, batch: Batch) -> None:
        named = self.task.named_parameters()  # those of adapters too
        steps.append({name: value.grad.clone() for name, value in named if value.grad is not None})
        clip(self, batch)

    monkeypatch.setattr(Loop, "_clip", record)
    return steps


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Between the values of two gradients, relative to the largest value."""
    assert one.keys() == other.keys()
    largest = max(float(value.abs().max()) for value in other.values())
    return max(float((value - other[name]).abs().max()) for name, value in one.items()) / largest


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], None]) -> None:
    """Does something in the middle of a step, counted from 1."""
    losses = Loop.batch_losses

    def with_action(self: Loop, batch: Any, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        if self.step + 1 == step:
            action()
        return losses(self, batch, reduce_sum)

    monkeypatch.setattr(Loop, "batch_losses", with_action)
