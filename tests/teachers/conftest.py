"""Tiny detectors of transformers, each saved and loaded once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from detdistill.teachers.transformers.transformers_folder import read_folder
from detdistill.teachers.transformers.transformers_teacher import TransformersTeacher, load_transformers
from support import transformers_models

Loaded = Callable[[str], TransformersTeacher]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny detector, which reads images of 128 x 128 pixels. No test changes it."""
    pytest.importorskip("transformers")
    return cache(lambda family: transformers_models.save(tmp_path_factory.mktemp(family), family))


@pytest.fixture(scope="session")
def loaded(saved: Callable[[str], Path]) -> Loaded:
    """The teacher of a family's folder."""
    return cache(lambda family: load_transformers(str(saved(family))))


@pytest.fixture(scope="session")
def processed(saved: Callable[[str], Path], loaded: Loaded) -> Callable[..., TransformersTeacher]:
    """The same teacher with another image processor, whose options are given."""

    def teacher(family: str, **options: Any) -> TransformersTeacher:
        model: Any = loaded(family)
        processor = transformers_models.processor_of(family, **options)
        return TransformersTeacher("tiny", read_folder(saved(family)), model._model, processor)

    return teacher
