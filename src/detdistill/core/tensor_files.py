"""Reading files of tensors whose hash is known. No code is ever run from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detdistill.core.errors import DetdistillError, first_line
from detdistill.core.files import open_regular


def read_tensors(path: Path, sha256: str, described_by: str) -> dict[str, Tensor]:
    """Read a safetensors file. Its tensors are mapped into memory, which processes share.

    Args:
        path: The file.
        sha256: Its SHA-256, in hexadecimal.
        described_by: Name of the file beside it that has the hash, for messages.

    Raises:
        DetdistillError: It cannot be read, has another hash, or is no safetensors file.
    """
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise DetdistillError(
                f"{path} is not the file that {described_by} beside it was written for (SHA-256 {found[:12]}…, not "
                f"{sha256[:12]}…): it is damaged, or saving was interrupted; copy the folder again, or save again"
            )
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:  # the latter of types that torch lacks
        raise DetdistillError(f"{path} is no safetensors file that can be read: {first_line(error)}") from error
