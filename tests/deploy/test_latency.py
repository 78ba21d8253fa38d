from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deploy.test_export import write_run
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.deploy.latency import ENGINES, Speed, sizes_of, speeds_of
from detdistill.detectors.storage import load_detector

pytestmark = pytest.mark.usefixtures("exported_once")


def test_size(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    size = sizes_of({"run": run})["run"]
    assert size.parameters == sum(each.numel() for each in load_detector(run).parameters())
    assert size.file_bytes == (run / "model.safetensors").stat().st_size
    assert size.canvas == (64, 64)
    assert size.macs is not None
    larger = write_run(tmp_path / "larger", size=ImageSize(letterbox=128))
    macs = sizes_of({"larger": larger})["larger"].macs
    assert macs is not None
    # The coarsest maps are rounded up to a cell.
    assert 3 < macs / size.macs < 4.1


def test_images_per_second() -> None:
    assert Speed("a", "eager", 8, 0.5, 1.0).images_per_second == 16


def test_every_engine_and_batch_is_measured(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    found = speeds_of({"a": run}, batches=(1, 2), rounds=2)
    assert [(speed.engine, speed.batch) for speed in found] == [(engine, n) for n in (1, 2) for engine in ENGINES]
    assert all(0 < speed.p50 <= speed.p95 for speed in found)


@pytest.mark.parametrize("changes", [{"rounds": 0}, {"threads": 0}, {"batches": ()}, {"batches": (0,)}])
def test_numbers_that_cannot_be(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(DetdistillError, match="must be at least 1"):
        speeds_of({"a": tmp_path}, **changes)  # type: ignore[arg-type]


def test_the_number_of_threads_is_restored(tmp_path: Path) -> None:
    run, before = write_run(tmp_path / "run"), torch.get_num_threads()
    speeds_of({"a": run}, engines=("eager",), batches=(1,), rounds=1, threads=before + 1)
    assert torch.get_num_threads() == before
    with pytest.raises(DetdistillError):
        speeds_of({"a": tmp_path / "absent"}, engines=("eager",), threads=before + 1)
    assert torch.get_num_threads() == before
