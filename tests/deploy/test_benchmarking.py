from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.test_export import write_run
from detdistill.cli import main
from detdistill.core.errors import DetdistillError
from detdistill.data.source import DatasetSource
from detdistill.deploy.benchmarking import benchmark
from detdistill.deploy.latency import ENGINES
from detdistill.detectors.storage import load_detector
from detdistill.evaluation.evaluating import evaluate
from support.small_runs import write_boxes

pytestmark = pytest.mark.usefixtures("exported_once")


def test_a_report_of_several_runs(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in ("teacher", "student")]  # equal: one export
    data = write_boxes(tmp_path / "data")
    file = tmp_path / "speeds.json"
    found = benchmark(runs, DatasetSource(data, "val"), batch_size=2, rounds=1, json=file)
    assert list(found.sizes) == ["teacher", "student"]
    assert found.sizes["student"].parameters == sum(each.numel() for each in load_detector(runs[1]).parameters())
    assert found.AP["student"] == evaluate(runs[1], DatasetSource(data, "val")).scores.AP
    assert [speed.batch for speed in found.speeds].count(1) == 2 * len(ENGINES)
    assert json.loads(file.read_text()) == json.loads(json.dumps(found.to_values()))


def test_mistakes_are_told_before_the_work(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    before = (run / "model.json").read_bytes()
    with pytest.raises(DetdistillError, match="at least one run folder"):
        benchmark([])
    with pytest.raises(DetdistillError, match="given twice"):
        benchmark([run, run / ".." / "run"])
    with pytest.raises(DetdistillError, match=r"--json .*would replace the input"):
        benchmark([run], json=run / "model.json")
    with pytest.raises(DetdistillError, match="must be at least 1"):
        benchmark([run], rounds=0)
    assert (run / "model.json").read_bytes() == before


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speeds.json"
    words = [str(write_run(tmp_path / "student")), "--rounds", "1", "--batch-size", "1", "--json", str(file)]
    assert main(["benchmark", *words]) == 0
    said = capsys.readouterr().out
    assert "student, onnxruntime" in said
    assert "MACs of the network" in said
    assert json.loads(file.read_text())["threads"] == 1
