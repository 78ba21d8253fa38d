from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
import torch

from detdistill.core import environment as machine

CPUINFO = "processor\t: 0\nmodel\t\t: 207\nmodel name\t: Xeon: 8\n\nprocessor\t: 1\nmodel name\t: other\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CPUINFO, "Xeon: 8 (model 207)"),
        (CPUINFO.replace("model\t\t: 207\n", ""), "Xeon: 8"),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", "arm"),
        (None, "arm"),
    ],
)
def test_the_processor_is_told_to_its_model(
    text: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(machine, "CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    parts = machine.machine().split(", ")
    assert told in parts
    assert f"{os.cpu_count()} cores" in parts


def test_gpus_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    assert machine.machine().endswith(", card 0, card 1")


def test_this_machine() -> None:
    assert machine.machine().startswith(f"{platform.system()} {platform.machine()}, ")
