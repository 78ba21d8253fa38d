"""Folders of tiny transformers detectors, each saved once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from detdistill.teachers.transformers_teacher import TransformersTeacher, load_transformers
from support import transformers_models


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny detector, which reads images of 128 x 128 pixels. No test changes it."""
    pytest.importorskip("transformers")
    return cache(lambda family: transformers_models.save(tmp_path_factory.mktemp(family), family))


@pytest.fixture(scope="session")
def loaded(saved: Callable[[str], Path]) -> Callable[[str], TransformersTeacher]:
    """The teacher of a family's folder."""
    return cache(lambda family: load_transformers(str(saved(family))))
