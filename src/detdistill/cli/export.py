"""`detdistill export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from detdistill.cli.parser import Argument, Option
from detdistill.errors import DetdistillError


@dataclass(frozen=True)
class Export:
    """Write a detector as an ONNX file, and verify it: onnxruntime must find what PyTorch finds.

    Any batch size; normalization is inside, class names and all else that a program needs are in the file's metadata.
    """

    run_folder: Annotated[Path, Argument("folder of a trained, distilled or imported detector")]
    out: Annotated[Path, Option("file to write, .onnx")]
    format: Annotated[Literal["onnx"], Option("of the file")] = "onnx"
    form: Annotated[
        Literal["end_to_end", "raw"], Option("detections, non-maximum suppression inside; or all scores and boxes")
    ] = "end_to_end"
    height: Annotated[int | None, Option("of the canvas, a multiple of 32, instead of what holds the run's images")] = (
        None
    )
    width: Annotated[int | None, Option("of the canvas, likewise")] = None
    any_size: Annotated[bool, Option("canvases of any height and width that are multiples of 32")] = False
    data: Annotated[Path | None, Option("data set to verify on; drawn noise without one")] = None
    split: Annotated[str | None, Option("which part of the data set, such as val")] = None
    images: Annotated[int, Option("number of images to verify on")] = 16

    def run(self) -> None:
        """Exports, verifies, and tells what was compared."""
        if (self.height is None) != (self.width is None):
            raise DetdistillError("--height and --width belong together: give both")
        from detdistill.data.opening import open_dataset
        from detdistill.deploy.export import export

        size = None if self.height is None or self.width is None else (self.height, self.width)
        dataset = None if self.data is None else open_dataset(self.data, self.split, check_images=True)
        found = export(
            self.run_folder,
            self.out,
            form=self.form,
            size=size,
            any_size=self.any_size,
            dataset=dataset,
            images=self.images,
        )
        print(f"{self.out}: {self.out.stat().st_size / 2**20:.1f} MiB\nverified on {found}")
