"""What a finished run leaves in `summary.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from detdistill.core.errors import DetdistillError
from detdistill.core.files import LARGEST_RECORD, read_regular, write_atomically


@dataclass(frozen=True)
class Summary:
    """A finished run.

    Attributes:
        epochs: that were trained.
        steps: of the optimiser.
        AP: COCO's, of the detector that was kept, on the validation set, 0 to 1; None without one.
        best_epoch: the epoch that it comes from; None without a validation set: then it is the last.
        seconds: that this process took, from the last resumption on.
        teacher_ap: the teacher's AP on the validation set, 0 to 1; None without one.
    """

    epochs: int
    steps: int
    AP: float | None
    best_epoch: int | None
    seconds: float
    teacher_ap: float | None = None


def write_summary(summary: Summary, file: Path) -> None:
    """Write a summary.

    Raises:
        DetdistillError: The file cannot be written.
    """
    write_atomically(file, json.dumps(asdict(summary), indent=2) + "\n")


def read_summary(file: Path) -> Summary:
    """Read what `write_summary` has written.

    Raises:
        DetdistillError: The file cannot be read or holds something else.
    """
    try:
        return TypeAdapter(Summary).validate_json(read_regular(file, LARGEST_RECORD))
    except OSError as error:
        raise DetdistillError(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DetdistillError(
            f"{file} is damaged ({field}: {first['msg']}): remove it, and the same command finishes the run again"
        ) from error
