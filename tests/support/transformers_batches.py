"""Batches for detectors of transformers, and what transformers itself makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from detdistill.core.offers import Offer
from detdistill.teachers.teacher import TeacherBatch
from detdistill.teachers.transformers.transformers_families import FAMILIES
from support.transformers_models import GRID_FAMILIES, SIDE

ALL: frozenset[Offer] = frozenset({"features", "grid", "boxes", "opinions"})
BOXES: frozenset[Offer] = frozenset({"boxes", "opinions"})
RARE = ("rt_detr_v2", "deimv2", "deformable_detr", "table-transformer", "conditional_detr", "dab-detr", "lw_detr")


def params(*families: str) -> list[Any]:
    """Families; those whose code is like others' only among the slow tests."""
    return [pytest.param(family, marks=[pytest.mark.slow] if family in RARE else []) for family in families]


EVERY, GRIDS = params(*FAMILIES), params(*GRID_FAMILIES)


def batch(
    *sizes: tuple[int, int], canvas: tuple[int, int] = (SIDE, SIDE), wanted: frozenset[Offer] = ALL
) -> TeacherBatch:
    """Random images on a canvas, 0 beyond them."""
    images = torch.zeros(len(sizes), 3, *canvas, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, :height, :width] = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return TeacherBatch(images, torch.tensor(sizes), wanted)


def own_numbers(teacher: Any, given: TeacherBatch, number: int) -> tuple[Any, Any, tuple[int, int]]:
    """What transformers makes of one image of a batch by itself: its outputs, its processor and the image's size."""
    height, width = given.sizes[number].tolist()
    processor = teacher._reader._processor
    inputs = processor(images=given.images[number, :, :height, :width].permute(1, 2, 0).numpy(), return_tensors="pt")
    with torch.no_grad():
        return teacher._model(pixel_values=inputs["pixel_values"]), processor, (height, width)
