from __future__ import annotations

import json

import pytest

from detdistill.cli import main
from detdistill.distill.methods import list_methods


def test_people_read_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    said = capsys.readouterr().out
    assert "rank_mimicking: Li et al., AAAI 2022" in said
    assert "weights    retinanet 4; an unmerged configuration of mmrazor" in said
    for method in list_methods():
        assert f"{method.name}: {method.paper}\n  compares   {method.compares}\n" in said


def test_programs_read_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    methods = json.loads(capsys.readouterr().out)
    assert [set(method) for method in methods] == len(methods) * [
        {"name", "paper", "compares", "needs", "detectors", "default_weight"}
    ]
    first = methods[0]
    assert first["name"] == "rank_mimicking"
    assert first["default_weight"]["retinanet"] == 4
    assert first["default_weight"]["gfl"] == "auto"
