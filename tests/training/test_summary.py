from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.training.summary import Summary, read_summary, write_summary

SUMMARY = Summary(epochs=3, steps=6, AP=0.25, best_epoch=2, seconds=1.5)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_summary(SUMMARY, tmp_path / "summary.json")
    assert read_summary(tmp_path / "summary.json") == SUMMARY


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"epochs": "x", "steps": 6, "AP": null, "best_epoch": null, "seconds": 1}', "\xff"]
)
def test_a_damaged_one_names_the_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DetdistillError, match=r"summary.json is damaged"):
        read_summary(file)


def test_a_missing_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match="cannot be read"):
        read_summary(tmp_path / "summary.json")
