"""`detdistill publish`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from detdistill.cli.source import Source
from detdistill.core.console import print_out


@dataclass(frozen=True)
class Publish(Source):
    """Write a folder to give away: weights, a verified ONNX file, an example picture, and a model card with scores.

    Nothing is uploaded: `hf upload NAME FOLDER`, for example, does that. Paths of this machine do not get out.
    """

    run_folder: Annotated[Path, Parameter(help="Folder of a trained, distilled or imported detector.")]
    _: KW_ONLY
    out: Annotated[Path, Parameter(help="Output folder, new or empty.")]
    data: Annotated[Path, Parameter(help="Dataset to score and verify on; one of its images is shown.")]
    name: Annotated[str | None, Parameter(help="Name of the detector. Default: the folder's.")] = None
    license: Annotated[str | None, Parameter(help="License of the weights, by its identifier, such as apache-2.0.")] = (
        None
    )

    def run(self) -> None:
        """Publishes, and says what to look at."""
        from detdistill.deploy.publish import CARD, EXAMPLE, publish

        files = publish(self.run_folder, self.out, dataset=self.source(self.data), name=self.name, license=self.license)
        print_out(f"{self.out} holds {', '.join(file.name for file in files)}")
        print_out(f"read {CARD} and look at {EXAMPLE} before you give them away: the picture is one of your images")
