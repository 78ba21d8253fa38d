"""`detdistill publish`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from detdistill.cli.parser import Argument, Option
from detdistill.cli.source import Source


@dataclass(frozen=True)
class Publish(Source):
    """Write a folder to give away: weights, a verified ONNX file, an example picture, and a model card with scores.

    Nothing is uploaded: `hf upload NAME FOLDER`, for example, does that. Paths of this machine do not get out.
    """

    run_folder: Annotated[Path, Argument("folder of a trained, distilled or imported detector")]
    to: Annotated[Path, Option("folder to write, new or empty")]
    data: Annotated[Path, Option("data set to score and verify on; an image of it is shown")]
    name: Annotated[str | None, Option("of the detector, instead of the folder's")] = None
    license: Annotated[str | None, Option("of the weights, by its identifier, such as apache-2.0")] = None

    def run(self) -> None:
        """Publishes, and says what to look at."""
        from detdistill.deploy.publish import CARD, EXAMPLE, publish

        dataset = self.opened(self.data)
        publish(
            self.run_folder, self.to, name=self.name or self.to.resolve().name, dataset=dataset, license=self.license
        )
        print(f"{self.to} holds {', '.join(sorted(file.name for file in self.to.iterdir()))}")
        print(f"read {CARD} and look at {EXAMPLE} before you give them away: the picture is one of your images")
