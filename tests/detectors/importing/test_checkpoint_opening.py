from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.detectors.importing.checkpoint_opening import open_checkpoint
from detdistill.detectors.importing.mmdet import import_mmdet
from detdistill.detectors.importing.state_dicts import find_state_dict
from support.mmdet_files import checkpoint, saved, small

MEGABYTE = 2**20
T = TypeVar("T")


class Malicious:
    """A pickle of it runs a command of the shell."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class FromBytes:
    """A pickle of it has PyTorch read an inner file, as those of tensors do."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Callable[[bytes], object], tuple[bytes]]:
        return torch.storage._load_from_bytes, (self.content,)


class Stranger:
    """A class that the opening does not know."""


def outcome(read: Callable[[Path], T], path: Path) -> T | None:
    """What a file is read as; None if it is refused by an error of ours that names it."""
    refusal = ""
    try:
        return read(path)
    except DetdistillError as error:
        refusal = str(error)
    assert refusal.startswith(str(path))
    return None


def legacy(folder: Path, content: object) -> Path:
    path = folder / "legacy.pth"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with changed entries and right checksums."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    result = path.with_name(f"changed_{path.name}")
    with zipfile.ZipFile(result, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return result


@pytest.mark.parametrize("save", [saved, legacy])
def test_plain_files_open_as_they_were_saved(save: Callable[[Path, object], Path], tmp_path: Path) -> None:
    weights = OrderedDict(weight=torch.randn(3, 4), half=torch.ones(2).half(), shared=nn.Parameter(torch.zeros(2)))
    opened = open_checkpoint(save(tmp_path, {"state_dict": weights, "meta": {"epoch": 3, "CLASSES": ("a", "b")}}))
    assert opened["meta"] == {"epoch": 3, "CLASSES": ("a", "b")}
    assert list(opened["state_dict"]) == list(weights)
    for name, tensor in weights.items():
        assert torch.equal(opened["state_dict"][name], tensor)


@pytest.mark.parametrize("save", [saved, legacy])
def test_objects_of_unknown_classes_become_inert(save: Callable[[Path, object], Path], tmp_path: Path) -> None:
    stranger = Stranger()
    vars(stranger).update(history=[1, 2], nested={"a": 1})
    content = {"weight": torch.ones(2), "hub": [stranger, Fraction(1, 2), {3}], "epoch": 4}
    opened = open_checkpoint(save(tmp_path, content))
    assert torch.equal(opened["weight"], torch.ones(2))
    assert opened["epoch"] == 4
    assert not isinstance(opened["hub"][0], Stranger)
    assert not hasattr(opened["hub"][0], "history")


@pytest.mark.parametrize("save", [saved, legacy])
def test_nothing_is_executed(save: Callable[[Path, object], Path], tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = save(tmp_path, {"meta": Malicious(marker), "state_dict": {"weight": torch.ones(1)}})
    opened = open_checkpoint(path)
    assert not marker.exists()
    assert torch.equal(opened["state_dict"]["weight"], torch.ones(1))
    # The file is what it is taken for: Python's own unpickler would have run the command.
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\neval\n(Vopen('{}', 'w')\ntR.",
        b"cbuiltins\nexec\n(Vopen('{}', 'w')\ntR.",
        b"(Vtouch {}\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x00V{}\n\x85R.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}V__code__\ncos\nsystem\nstb(Vtouch {}\ntR.",
        b"ccollections\nOrderedDict\n(N}V__init__\ncos\nsystem\nstb(Vtouch {}\ntR.",
    ],
)
def test_crafted_pickles_execute_nothing(call: bytes, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    crafted = call.replace(b"{}", str(marker).encode())
    path = saved(tmp_path, {"weight": torch.ones(1)})
    changed = rewritten(path, lambda name, content: crafted if name.endswith("data.pkl") else content)
    outcome(open_checkpoint, changed)
    assert not marker.exists()
    assert torch.equal(open_checkpoint(path)["weight"], torch.ones(1))


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pth"
    with pytest.warns(FutureWarning, match=r"torch\.jit"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    with pytest.raises(DetdistillError, match="is a TorchScript archive"):
        open_checkpoint(path)


def test_archives_that_grow_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"weight": torch.zeros(MEGABYTE)})
    bomb = rewritten(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < MEGABYTE / 10
    with pytest.raises(DetdistillError, match="would grow beyond the size of the file"):
        open_checkpoint(bomb)


def test_storages_larger_than_their_records_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"weight": torch.ones(10)})
    count = b"K\n"  # 10, of the storage and of the tensor
    changed = rewritten(path, lambda _, content: content.replace(count, b"J" + struct.pack("<i", 2**30)))
    with pytest.raises(DetdistillError, match="is not a whole PyTorch checkpoint"):
        open_checkpoint(changed)


def test_tensors_that_repeat_a_few_bytes_without_end_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"fine": torch.ones(3), "endless": torch.ones(1).expand(10**12)})
    with pytest.raises(DetdistillError, match=r"endless: shape \(1000000000000,\) needs more bytes"):
        find_state_dict(open_checkpoint(path), path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # remembers an object under the number 2^31 - 1
        b"cbuiltins\nbytearray\n(L100000000000L\ntR.",
    ],
)
def test_pickles_that_allocate_are_refused(pickled: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path, {"weight": torch.ones(1)})
    changed = rewritten(path, lambda name, content: pickled if name.endswith("data.pkl") else content)
    with pytest.raises(DetdistillError, match=r"would need more memory|makes a bytearray"):
        open_checkpoint(changed)
    alone = tmp_path / "alone.pth"
    alone.write_bytes(pickled)
    with pytest.raises(DetdistillError, match=r"would need more memory|makes a bytearray"):
        open_checkpoint(alone)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not a checkpoint\n" * 100, "text file"),
        (bytes(range(256)), "neither a PyTorch archive"),
        (pickle.dumps({"a": [1] * 100})[:50], "damaged"),
        (pickle.dumps([1, 2]) + b"more", "damaged"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web page"),
        (gzip.compress(b"weights", mtime=0), "gzip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        (bytes(257) + b"ustar" + bytes(250), "tar archive"),
        (b"PK\x03\x04" + bytes(100), "is not a whole PyTorch checkpoint"),
    ],
)
def test_other_files_are_described(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    path.write_bytes(content)
    with pytest.raises(DetdistillError, match=message):
        open_checkpoint(path)
    unnamed = {"damaged", "neither a PyTorch archive"}
    with pytest.raises(DetdistillError, match="not a whole safetensors file" if message in unnamed else message):
        open_checkpoint(path.rename(path.with_suffix(".safetensors")))


def test_plain_pickles_are_read(tmp_path: Path) -> None:
    weights = {"weight": nn.Parameter(torch.randn(3, 4)), "half": torch.ones(2, 3).half().t(), "other": Stranger()}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(weights, protocol=protocol))
        opened = open_checkpoint(path)
        for name in ("weight", "half"):
            expected = weights[name]
            assert isinstance(expected, Tensor)
            assert torch.equal(opened[name], expected)
        assert not isinstance(opened["other"], Stranger)
    path.write_bytes(pickle.dumps([1, 2]))
    assert open_checkpoint(path) == [1, 2]


def test_plain_pickles_execute_nothing_and_stay_within_their_size(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "plain.pkl"
    inner = io.BytesIO()
    torch.save(Malicious(marker), inner, _use_new_zipfile_serialization=False)
    for content in (Malicious(marker), FromBytes(inner.getvalue())):
        path.write_bytes(pickle.dumps(content))
        outcome(open_checkpoint, path)
        assert not marker.exists()
        pickle.loads(path.read_bytes())
        assert marker.exists()
        marker.unlink()
    storage = io.BytesIO()
    made: Any = torch.ones(1000)
    torch.save(made.storage(), storage, _use_new_zipfile_serialization=False)
    repeated = storage.getvalue()
    path.write_bytes(pickle.dumps([FromBytes(repeated) for _ in range(100)]))
    with pytest.raises(DetdistillError, match="more memory than its size"):
        open_checkpoint(path)


def test_archives_of_other_programs_are_described(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
        archive.writestr("best.pth", b"weights")
    for name, message in (("arrays.npz", "NumPy"), ("files.zip", r"unpack.*best\.pth")):
        with pytest.raises(DetdistillError, match=message):
            open_checkpoint(tmp_path / name)


def test_places_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match="cannot be read: No such file"):
        open_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(DetdistillError, match=r"is a folder.*no checkpoint file"):
        open_checkpoint(tmp_path)
    (tmp_path / "epoch_12.pth").touch()
    with pytest.raises(DetdistillError, match=r"is a folder.*epoch_12\.pth"):
        open_checkpoint(tmp_path)
    with pytest.raises(DetdistillError, match="device"):
        open_checkpoint(Path(os.devnull))


def test_state_dicts_are_found_nested_or_bare(tmp_path: Path) -> None:
    path = saved(tmp_path, {})
    weights = {"weight": torch.ones(2)}
    holding: list[Any] = [weights, {"state_dict": weights, "meta": {}}, {"model": weights, "optimizer": {}}]
    for content in holding:
        assert find_state_dict(content, path) == weights
    for content in ([1], {"meta": {}}, {"state_dict": {"weight": 3}}):
        with pytest.raises(DetdistillError, match="holds no state dict"):
            find_state_dict(content, path)


def test_keys_without_end_are_not_written_out(tmp_path: Path) -> None:
    doubled: object = 1
    for _ in range(22):
        doubled = (doubled, doubled)
    deep: object = 1
    for _ in range(100_000):
        deep = (deep,)
    path = saved(tmp_path, {})
    with pytest.raises(DetdistillError, match=r"holds no state dict: .*found epoch, tuple, tuple$"):
        find_state_dict({"epoch": 1, doubled: 1, deep: 1}, path)


def test_unusable_tensors_are_all_listed(tmp_path: Path) -> None:
    path = saved(tmp_path, {"padding": torch.zeros(1000)})
    state: dict[Any, Any] = {
        "fine": torch.ones(2),
        "text": "a",
        3: torch.ones(2),
        "nan": torch.tensor([1.0, float("nan")]),
        "sparse": torch.eye(3).to_sparse(),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "meta": torch.zeros(2, device="meta"),
    }
    with pytest.raises(DetdistillError) as refused:
        find_state_dict(state, path)
    assert str(refused.value).splitlines() == [
        f"{path}: 6 entries of the state dict cannot be used:",
        "  text: str instead of a tensor",
        "  int instead of a name",
        "  nan: NaN or infinity",
        "  sparse: not a dense tensor of plain numbers",
        "  complex: not a dense tensor of plain numbers",
        "  meta: not a dense tensor of plain numbers",
    ]


def test_an_entry_that_says_it_is_a_folder_is_refused(tmp_path: Path) -> None:
    """PyTorch would give the tensor whatever memory held; found by flipping single bits of training checkpoints."""
    path = saved(tmp_path, {"state_dict": {"weight": torch.ones(4)}})
    with zipfile.ZipFile(path) as archive:
        contents = {entry: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in contents.items():
            entry.external_attr = 0x10 if entry.filename.endswith("data/0") else 0
            archive.writestr(entry, content)
    with pytest.raises(DetdistillError, match=r"is damaged: .*data/0 says that it is a folder"):
        open_checkpoint(path)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("checkpoints")
    content = checkpoint(small("retinanet"))
    training = content | {"message_hub": Stranger()}
    files = {"zip": saved(folder, content), "training": saved(folder, training, "training.pth")}
    files["legacy"] = legacy(folder, training)
    return {kind: (path, import_mmdet(path).detector.state_dict()) for kind, path in files.items()}


def check_damage(intact: dict[str, tuple[Path, dict[str, Tensor]]], kind: str, damaged: bytes) -> None:
    """A damaged file is refused, or what came out of it is whole."""
    path, expected = intact[kind]
    broken = path.with_name(f"broken_{kind}.pth")
    broken.write_bytes(damaged)
    imported = outcome(import_mmdet, broken)
    if imported is None:
        return
    state = imported.detector.state_dict()
    assert list(state) == list(expected)
    # Files of before PyTorch 1.6 have no checksums: a flipped bit of a weight cannot be told from a weight.
    if kind != "legacy":
        assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())


KINDS = st.sampled_from(["zip", "training", "legacy"])


@given(kind=KINDS, share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_files(intact: dict[str, tuple[Path, dict[str, Tensor]]], kind: str, share: float) -> None:
    content = intact[kind][0].read_bytes()
    check_damage(intact, kind, content[: int(share * len(content))])


def flipped(content: bytes, places: list[tuple[float, int]]) -> bytes:
    damaged = bytearray(content)
    for share, mask in places:
        damaged[int(share * len(damaged))] ^= mask
    return bytes(damaged)


# The structure is in the first kilobytes, and in an archive's last ones.
SHARES = st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.1), st.floats(0.95, 1, exclude_max=True))
PLACES = st.lists(st.tuples(SHARES, st.integers(1, 255)), min_size=1, max_size=4)


@given(kind=KINDS, places=PLACES)
@settings(max_examples=100)
def test_flipped_bytes(
    intact: dict[str, tuple[Path, dict[str, Tensor]]], kind: str, places: list[tuple[float, int]]
) -> None:
    check_damage(intact, kind, flipped(intact[kind][0].read_bytes(), places))


@pytest.mark.slow
@given(kind=KINDS, places=PLACES)
@settings(max_examples=2000)
def test_flipped_bytes_campaign(
    intact: dict[str, tuple[Path, dict[str, Tensor]]], kind: str, places: list[tuple[float, int]]
) -> None:
    check_damage(intact, kind, flipped(intact[kind][0].read_bytes(), places))


@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3))
@settings(max_examples=100)
def test_flipped_bytes_of_the_pickle_under_a_right_checksum(
    intact: dict[str, tuple[Path, dict[str, Tensor]]], places: list[tuple[float, int]]
) -> None:
    path, _ = intact["training"]
    changed = rewritten(path, lambda name, content: flipped(content, places) if name.endswith("data.pkl") else content)
    outcome(import_mmdet, changed)


class _Numbers:
    """A tensor's numbers in a pickle, in whose place there is an object that would run a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        inner = io.BytesIO()
        torch.save(_Program(), inner, _use_new_zipfile_serialization=False)
        return torch.storage._load_from_bytes, (inner.getvalue(),)


class _Program:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def test_nobody_is_advised_to_run_the_code_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"a": _Numbers()}))
    with pytest.raises(DetdistillError) as error:
        open_checkpoint(path)
    assert "weights_only" not in str(error.value)


@pytest.mark.timeout(60)  # opened as usual, a pipe blocks for ever
@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
def test_a_pipe_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DetdistillError, match="regular files"):
        open_checkpoint(tmp_path / name)
