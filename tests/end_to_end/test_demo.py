"""The demo from beginning to end, on a few pictures: all that it promises is there. What it shows takes minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from detdistill import load
from support.html_page import Page

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
RUNS = ("teacher", "baseline", "distilled")


def demo(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEMO), "--tiny", "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_gives_runs_table_pictures_and_page(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    finished = demo(out)
    assert finished.returncode == 0, finished.stderr
    table = json.loads((out / "table.json").read_text())
    assert list(table) == list(RUNS)
    for name in RUNS:
        detector = load(out / name)
        assert table[name]["parameters"] == sum(parameter.numel() for parameter in detector.parameters())
        assert 0 <= table[name]["AP"] <= table[name]["AP50"] <= 1
        assert table[name]["images_per_second"] > 0
    assert table["baseline"]["parameters"] == table["distilled"]["parameters"] < table["teacher"]["parameters"] / 3
    page = (out / "report.html").read_text()
    for heading in ("teacher", "student alone", "student, RM + PFI"):
        assert heading in finished.stdout
        assert heading in page
    page_images = [image["alt"] for image in Page(out / "report.html").of("img")]
    assert len(page_images) == 4 * 6, "each image as annotated and as each detector sees it"
    with Image.open(out / "pictures.png") as picture:
        assert len(picture.getcolors(picture.width * picture.height) or []) > 1000

    # A second call trains nothing again; another seed is not taken for the same demo.
    weights = {name: (out / name / "model.safetensors").stat().st_mtime_ns for name in RUNS}
    (out / "table.json").unlink()
    assert demo(out).returncode == 0
    assert json.loads((out / "table.json").read_text())["distilled"]["AP"] == table["distilled"]["AP"]
    assert {name: (out / name / "model.safetensors").stat().st_mtime_ns for name in RUNS} == weights
    other = demo(out, "--seed", "1")
    assert other.returncode == 1
    assert "seed: 0 -> 1" in other.stderr
    assert "Traceback" not in other.stderr
