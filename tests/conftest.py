"""Where tests find golden vectors and photographs, and how they run on two cores."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

pytest_plugins = ["support.exports"]

GOLDEN = Path(os.environ.get("DETDISTILL_GOLDEN") or Path(__file__).parent / "golden")
GOLDEN2 = Path(os.environ.get("DETDISTILL_GOLDEN2") or Path(__file__).parent / "golden2")

# A shared machine stalls at random: the time of one example says nothing.
settings.register_profile("detdistill", deadline=None, print_blob=True)
settings.load_profile("detdistill")
torch.set_num_threads(1)

Golden = Callable[[str], dict[str, NDArray[Any]]]


def pytest_collection_finish() -> None:
    """Keep the garbage collector away from what was imported: half a million objects that are never freed."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Where the golden files are."""
    return GOLDEN


@pytest.fixture(scope="session")
def golden() -> Golden:
    """Loads one file of golden vectors by its name without the ending."""

    return partial(_arrays, GOLDEN)


@pytest.fixture(scope="session")
def golden2() -> Golden:
    """Loads one file of the second set, of two-stage detectors, EfficientDet and YOLOv2."""
    return partial(_arrays, GOLDEN2)


@pytest.fixture(scope="session")
def golden2_folder() -> Path:
    """Where the files of the second set are."""
    return GOLDEN2


def _arrays(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs, named by DETDISTILL_DATA."""
    folder = os.environ.get("DETDISTILL_DATA")
    if not folder:
        pytest.skip("DETDISTILL_DATA does not name a folder of photographs")
    return Path(folder)
