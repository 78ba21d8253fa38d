"""`detdistill publish`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from detdistill.cli.parser import Argument, Option


@dataclass(frozen=True)
class Publish:
    """Write a folder to give away: weights, a verified ONNX file, an example picture, and a model card with scores.

    Nothing is uploaded: `hf upload NAME FOLDER`, for example, does that. Paths of this machine do not get out.
    """

    run_folder: Annotated[Path, Argument("folder of a trained, distilled or imported detector")]
    to: Annotated[Path, Option("folder to write, new or empty")]
    data: Annotated[Path, Option("data set to score and verify on; an image of it is shown")]
    split: Annotated[str | None, Option("which part of the data set, such as test")] = None
    name: Annotated[str | None, Option("of the detector, instead of the folder's")] = None
    license: Annotated[str | None, Option("of the weights, by its identifier, such as apache-2.0")] = None

    def run(self) -> None:
        """Publishes, and says what to look at."""
        from detdistill.data.opening import open_dataset
        from detdistill.deploy.publish import CARD, EXAMPLE, publish

        dataset = open_dataset(self.data, self.split, check_images=True)
        publish(
            self.run_folder, self.to, name=self.name or self.to.resolve().name, dataset=dataset, license=self.license
        )
        print(f"{self.to} holds {', '.join(sorted(file.name for file in self.to.iterdir()))}")
        print(f"read {CARD} and look at {EXAMPLE} before you give them away: the picture is one of your images")
