from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DetdistillError
from detdistill.training.checkpoint import KEYS, read_checkpoint, write_checkpoint

DATASET = DetectionDataset("boxes", ("a",), (1,), ImageTable.of([]))
STATE: dict[str, Any] = {key: {} for key in KEYS} | {"step": 7, "data_sha256": DATASET.fingerprint, "teacher": None}


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        state = torch.load(file, weights_only=True)
        torch.save(change(state), file)

    return write


def test_what_was_written_is_read(tmp_path: Path) -> None:
    weights = torch.rand(3)
    write_checkpoint(tmp_path / "state.ckpt", STATE | {"task": {"w": weights}})
    found = read_checkpoint(tmp_path / "state.ckpt", DATASET, None)
    assert found["step"] == 7
    assert torch.equal(found["task"]["w"], weights)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_bytes(b""), "is damaged"),
        (lambda file: file.write_bytes(file.read_bytes()[:200]), "is damaged"),
        (lambda file: file.write_bytes(np.random.default_rng(0).bytes(5000)), "is damaged"),
        (lambda file: torch.save([1, 2], file), "holds a list"),
        (lambda file: torch.save({"pytorch-lightning_version": "2.6.6"}, file), "older version"),
        (changed(lambda state: {key: value for key, value in state.items() if key != "optimizer"}), "no optimizer"),
        (changed(lambda state: state | {"format": 99}), "format 99"),
        (changed(lambda state: state | {"data_sha256": "0"}), "boxes is not what this run was started on"),
        (changed(lambda state: state | {"teacher": {"folder": "b"}}), "started with the teacher"),
    ],
)
def test_what_cannot_be_gone_on_from_is_told_with_the_way_out(
    damage: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "state.ckpt"
    write_checkpoint(file, STATE)
    damage(file)
    with pytest.raises(DetdistillError, match=said) as caught:
        read_checkpoint(file, DATASET, None)
    assert "--overwrite" in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match="is damaged"):
        read_checkpoint(tmp_path / "state.ckpt", DATASET, None)
