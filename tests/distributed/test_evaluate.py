from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from detdistill.cli import main
from detdistill.core.image_options import ImageSize
from detdistill.data.opening import open_dataset
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import read_description
from support.processes import run_two
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector

Started = Callable[..., tuple[list[int | None], str, str]]
PROGRAM = "import sys, torch; torch.set_num_threads(1); from detdistill.cli import main; sys.exit(main())"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """With an odd number of images to evaluate."""
    return write_boxes(tmp_path / "data", val=5, side=256)


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    """A detector of random weights, which finds something everywhere."""
    detector = tiny_detector("atss", open_dataset(data, "val").classes)
    detector.postprocessing = PostProcessing(score_threshold=0.0, candidates_per_level=50, max_detections=30)
    save_detector(detector, tmp_path / "run", image_size=ImageSize(letterbox=256))
    return tmp_path / "run"


def torchrun(folder: Path, *words: str) -> tuple[list[int | None], str, str]:
    """Exit codes, output and errors of the command in two processes that torchrun starts."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    command = [sys.executable, *launcher, sys.executable, "-c", PROGRAM, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    two = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    return [two.returncode], two.stdout, two.stderr


def forked(folder: Path, *words: str) -> tuple[list[int | None], str, str]:
    """The same of two processes with the environment that torchrun would give them."""
    codes = run_two(run_command, folder, words)
    written = [[(folder / f"{name}{rank}.txt").read_text() for rank in range(2)] for name in ("out", "err")]
    return codes, "".join(written[0]), "".join(written[1])


def run_command(rank: int, folder: Path, words: Sequence[str]) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}{rank}.txt", os.O_WRONLY | os.O_CREAT), number)
    sys.exit(main(words))


@pytest.mark.parametrize("started", [forked, pytest.param(torchrun, marks=pytest.mark.slow)])
def test_two_processes_evaluate_as_one(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    words = ["evaluate", str(run), "--data", str(data), "--split", "val"]
    assert main([*words, "--json", str(tmp_path / "alone.json"), "--out", str(tmp_path / "alone_found.json")]) == 0
    alone = capsys.readouterr().out
    written = ("--json", "two.json", "--out", "two_found.json", "--store-thresholds")
    codes, output, errors = started(tmp_path, *words, *written)
    assert set(codes) == {0}, errors
    assert output.startswith(alone)
    assert output.removeprefix(alone).count("\n") == 1
    assert json.loads((tmp_path / "two.json").read_text()) == json.loads((tmp_path / "alone.json").read_text())
    one_found, two_found = (json.loads((tmp_path / f"{name}_found.json").read_text()) for name in ("alone", "two"))
    assert len(one_found) > 30
    assert sorted(two_found, key=str) == sorted(one_found, key=str)
    assert read_description(run).score_thresholds


@pytest.mark.parametrize("started", [forked, pytest.param(torchrun, marks=pytest.mark.slow)])
def test_an_image_that_one_process_cannot_read_stops_both(
    run: Path, data: Path, tmp_path: Path, started: Started
) -> None:
    (data / "val" / "3.png").write_bytes(b"no image")
    codes, _, errors = started(tmp_path, "evaluate", str(run), "--data", str(data), "--split", "val")
    assert set(codes) == {1}
    assert errors.count("3.png: is no image") == 2
    assert "evaluate.py" not in errors, "a traceback"
