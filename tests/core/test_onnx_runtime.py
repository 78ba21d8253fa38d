from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.core.onnx_runtime import check_installed, session
from support.onnx_files import constants, f32


def test_missing_packages_are_named_with_their_extra() -> None:
    check_installed("this test", "onnx", "pytest")
    with pytest.raises(DetdistillError, match=r"this test needs no_such_package: .*detdistill\[export\]"):
        check_installed("this test", "onnx", "no_such_package")


def test_a_session_runs_the_file(tmp_path: Path) -> None:
    path = constants(tmp_path / "model.onnx", {"boxes": f32([[1, 2, 3, 4]])}, size=(1, 1))
    for on_cpu in (False, True):
        (found,) = session(path, on_cpu=on_cpu).run(None, {"images": f32([[[[0]]] * 3])})
        assert found.tolist() == [[[1, 2, 3, 4]]]


def test_files_that_cannot_be_run(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(DetdistillError, match=r"model\.onnx cannot be read"):
        session(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DetdistillError, match=r"model\.onnx cannot be run"):
        session(path)
