"""ONNX files that a test process exports once: the exporter takes 10 s and more, however small the detector is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detdistill.deploy.canvases import Size, known_options, shared_canvas
from detdistill.deploy.onnx import Form, export_onnx
from detdistill.detectors.storage import read_description

_WRITTEN: dict[tuple[object, ...], tuple[bytes, dict[str, Any]]] = {}


def export_once(
    folder: Path,
    file: Path,
    *,
    form: Form = "end_to_end",
    size: Size | None = None,
    any_size: bool = False,
    half: bool = False,
    class_agnostic: bool = False,
) -> dict[str, Any]:
    """`export_onnx`, but a detector of equal weights, description and options is exported once and copied then."""
    content = tuple((folder / name).read_bytes() for name in ("model.json", "model.safetensors"))
    canvas = size
    if size is None and not any_size:
        canvas = shared_canvas(known_options(folder, read_description(folder).input.size))
    key = (*content, form, canvas, half, class_agnostic)
    if key not in _WRITTEN:
        metadata = export_onnx(
            folder, file, form=form, size=size, any_size=any_size, half=half, class_agnostic=class_agnostic
        )
        _WRITTEN[key] = file.read_bytes(), metadata
    written, metadata = _WRITTEN[key]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(written)
    return metadata


@pytest.fixture
def exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes commands export with `export_once`."""
    for module in ("export", "latency"):
        monkeypatch.setattr(f"detdistill.deploy.{module}.export_onnx", export_once)
