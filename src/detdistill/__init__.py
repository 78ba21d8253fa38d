"""Knowledge distillation of object detectors. Importing this package imports neither torch nor numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from detdistill.detectors.base import Detector

__all__ = ["load"]


def load(folder: str | PathLike[str], into: Detector | None = None) -> Detector:
    """Loads the detector of a run folder, in evaluation mode, on the CPU.

    Args:
        folder: with `model.safetensors` and `model.json`, as training, distilling and importing write it.
        into: a detector of your own class, which gets the weights, if the folder holds one.

    Raises:
        DetdistillError: a file is missing, damaged, not ours, or of a newer format.
    """
    from pathlib import Path

    from detdistill.detectors.storage import load_detector

    return load_detector(Path(folder), into)
