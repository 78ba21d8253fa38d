"""What a file is that is no checkpoint, by its first bytes."""

from __future__ import annotations

from collections.abc import Collection

START = 512
"""Bytes at the start of a file that tell its kind: a tar archive names itself at byte 257."""

LFS_POINTER = b"version https://git-lfs"
EXPECTED = "expected a PyTorch checkpoint (.pth) or a .safetensors file"
COMPRESSIONS = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "unzstd"),
}
FORMATS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"%PDF": "a PDF document",
}
PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"


def other_kind(start: bytes) -> str | None:
    """What is wrong with a file that is no checkpoint, and the remedy; None if its first bytes tell nothing.

    Args:
        start: the first `START` bytes of the file, or all of it.

    Returns:
        A text to put after the file's name, such as `is compressed with gzip: …`.
    """
    text = start.lstrip().lower()
    if start.startswith(LFS_POINTER):
        return "is a Git LFS pointer, not the checkpoint itself: fetch the checkpoint with `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "is a web page, not a checkpoint: download the file that the page links to"
    for magic, (name, program) in COMPRESSIONS.items():
        if start.startswith(magic):
            return f"is compressed with {name}: decompress it first, for example with {program}"
    if start[257:262] == b"ustar":
        return "is a tar archive: unpack it and give the checkpoint inside"
    for magic, name in FORMATS.items():
        if start.startswith(magic):
            return f"is {name}: {EXPECTED}"
    # A pickle of protocol 0 is text, too, but only a whole one is recognised, before this.
    if start and not start.strip(PRINTABLE):
        return f"is a text file: {EXPECTED}"
    return None


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file of `size` bytes starts as a safetensors file does: the length of a JSON header, and the header."""
    return len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def other_archive(names: Collection[str]) -> str | None:
    """What is wrong with a zip archive that PyTorch did not write; None for one that may be PyTorch's.

    Args:
        names: of its entries.
    """
    if any(name.endswith("data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"is a NumPy archive (.npz): {EXPECTED}"
    inside = [name for name in names if name.endswith((".pth", ".pt", ".ckpt", ".safetensors"))]
    if inside:
        return f"is a zip archive of files: unpack it and give the checkpoint inside ({inside[0]})"
    return f"is a zip archive without PyTorch's data.pkl: {EXPECTED}"
