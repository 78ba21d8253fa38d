"""ONNX files in onnxruntime."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detdistill.core.errors import DetdistillError, first_line
from detdistill.core.files import open_regular

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""What sessions run on, as far as the installed onnxruntime has it, the best first."""
_ERRORS_ONLY = 3  # the severity from which on onnxruntime writes to stderr


def check_installed(purpose: str, *packages: str) -> None:
    """Raise `DetdistillError` if a package of the extra `export` is not installed.

    Args:
        purpose: What the packages are needed for, the first words of the message.
        packages: Names to import.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise DetdistillError(f"{purpose} needs {', '.join(missing)}: pip install 'detdistill[export]'")


def session(file: Path, threads: int = 1, *, on_cpu: bool = True) -> Any:
    """Return an onnxruntime session.

    Args:
        file: The ONNX file.
        threads: Threads of an operator.
        on_cpu: Use no GPU although onnxruntime could.

    Raises:
        DetdistillError: The file cannot be run.
    """
    import onnxruntime

    try:
        open_regular(file).close()
    except OSError as error:
        raise DetdistillError(f"{file} cannot be read: {error.strerror}") from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    available = (
        PROVIDERS[1:] if on_cpu else [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    )
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=available)
    except Exception as error:  # onnxruntime's own, and of many kinds
        raise DetdistillError(f"{file} cannot be run: {first_line(error)}") from error
