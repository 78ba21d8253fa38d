from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from detdistill.core.errors import DetdistillError
from detdistill.core.tensor_files import read_tensors


def test_tensors_are_read_and_other_content_is_refused(tmp_path: Path) -> None:
    file, content = tmp_path / "a.safetensors", save({"a": torch.arange(3), "b": torch.zeros(0, 4)})
    file.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    tensors = read_tensors(file, sha256, "a.json")
    assert tensors["a"].tolist() == [0, 1, 2]
    assert tensors["b"].shape == (0, 4)
    file.write_bytes(save({"a": torch.arange(4)}))
    with pytest.raises(DetdistillError, match=r"a\.safetensors.*a\.json"):
        read_tensors(file, sha256, "a.json")


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, (2**62).to_bytes(8, "little"), b"\2" + b"\0" * 7 + b"[]"])
def test_what_is_no_safetensors_file_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(DetdistillError, match=r"a\.safetensors"):
        read_tensors(file, hashlib.sha256(content).hexdigest(), "a.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"a\.safetensors cannot be read"):
        read_tensors(tmp_path / "a.safetensors", "", "a.json")
