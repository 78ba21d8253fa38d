"""`detdistill analyze`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from detdistill.cli.source import DATA, Source
from detdistill.core.errors import DetdistillError


@dataclass(frozen=True, kw_only=True)
class Analyze(Source):
    """Tell why a student lags behind its teacher: its ranks, its features, its errors, on one page.

    Runs the detectors once over annotated images and writes analysis.html and analysis.json. With several students,
    such as one that learned alone and one that was taught, they stand side by side.
    """

    teacher: Annotated[Path, Parameter(help="Folder of a trained, distilled or imported detector.")]
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
        """Writes the page and prints what it says."""
        from detdistill.analysis.measure import measure
        from detdistill.analysis.page import write_analysis
        from detdistill.core.image_options import ImageOptions
        from detdistill.detectors.running import InferenceOptions, chosen_device
        from detdistill.detectors.storage import load_detector, read_description

        names = names_of(self.student)
        device = chosen_device(self.device)
        students = {name: load_detector(folder).to(device) for name, folder in zip(names, self.student, strict=True)}
        size = read_description(self.student[0]).input.size
        if size is None:
            raise DetdistillError(
                f"{self.student[0] / 'model.json'} does not tell the size of images that the student was made for"
            )
        said = write_analysis(
            measure(
                load_detector(self.teacher).to(device),
                students,
                self.opened(self.data),
                ImageOptions(**asdict(size)),
                InferenceOptions(self.batch_size, self.workers, self.bf16, self.channels_last),
            ),
            self.out,
        )
        print("\n".join(said))
        print(f"{self.out / 'analysis.html'} shows it")


def names_of(folders: list[Path]) -> list[str]:
    """Names by which students are told apart: their folders' last parts, as few as do; a seed alone is no name.

    Raises:
        DetdistillError: a folder is there twice.
    """
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise DetdistillError("--student: the same folder is given twice")
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names) and not any(name.isdigit() for name in names):
            break
    return names
