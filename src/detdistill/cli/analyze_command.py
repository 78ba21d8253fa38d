"""`detdistill analyze`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from detdistill.cli.source import DATA, Source
from detdistill.core.console import print_out


@dataclass(frozen=True, kw_only=True)
class Analyze(Source):
    """Tell why a student lags behind its teacher: its ranks, its features, its errors, on one page.

    Runs the detectors once over annotated images and writes analysis.html and analysis.json. The page also says whether
    the teacher's own scores or its opinions of the student's boxes fit as the source of a ranking. With several
    students, such as one that learned alone and one that was taught, they stand side by side.
    """

    teacher: Annotated[
        list[str],
        Parameter(
            help="Folder of a detector, or another teacher, as of distill. Given several times, the boxes of all "
            "teachers are joined."
        ),
    ]
    student: Annotated[
        list[Path], Parameter(help="Folder of a student; may be given several times.", consume_multiple=True)
    ]
    data: Annotated[Path, Parameter(help=DATA)]
    out: Annotated[Path, Parameter(help="Output folder.")]
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 8
    workers: Annotated[int, Parameter(help="Processes that load images.")] = 0
    bf16: Annotated[bool, Parameter(help="Run the networks in bfloat16.")] = False
    channels_last: Annotated[bool, Parameter(help="Store images with the channels innermost, often faster.")] = False
    device: Annotated[str | None, Parameter(help="Device, such as cpu or cuda:1. Default: a GPU if there is one.")] = (
        None
    )

    def run(self) -> None:
        """Writes the page and prints the verdict."""
        from detdistill.analysis.analyzing import analyze
        from detdistill.detectors.running import InferenceOptions

        found = analyze(
            self.teacher,
            self.student,
            self.source(self.data),
            self.out,
            device=self.device,
            options=InferenceOptions(self.batch_size, self.workers, self.bf16, self.channels_last),
        )
        print_out("\n".join(found.verdict))
        print_out(f"{found.page} shows it")
