"""The examples do what they say."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_own_detector_meets_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "own_detector.py"), run_name="__main__")
    assert "TinyDetector meets the contract" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1400)
@pytest.mark.parametrize("head", ["retinanet", "fcos", "fcos+", "atss", "gfl", "gflv2", "vfnet"])
def test_each_head_overfits_a_few_photographs(head: str, photographs: Path) -> None:
    printed = run("overfit.py", str(photographs / "bccd"), "--head", head, "--images", "2", "--steps", "200")
    assert float(printed.split("AP50 ")[1].split()[0]) > 0.9
