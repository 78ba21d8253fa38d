"""`detdistill export`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from detdistill.cli.parser import Argument, Option
from detdistill.cli.source import Source
from detdistill.errors import DetdistillError

if TYPE_CHECKING:
    from detdistill.annotations import DetectionDataset

TRAIN = "train"


@dataclass(frozen=True)
class Export(Source):
    """Write a detector as an ONNX file, and verify it: onnxruntime must find what PyTorch finds.

    Any batch size; normalization is inside, class names and all else that a program needs are in the file's metadata.
    """

    run_folder: Annotated[Path, Argument("folder of a trained, distilled or imported detector")]
    out: Annotated[Path, Option("file to write, .onnx")]
    format: Annotated[Literal["onnx"], Option("of the file")] = "onnx"
    form: Annotated[
        Literal["end_to_end", "raw"], Option("detections, non-maximum suppression inside; or all scores and boxes")
    ] = "end_to_end"
    height: Annotated[
        int | None, Option("of the canvas, a multiple of 32, instead of the smallest that holds the images")
    ] = None
    width: Annotated[int | None, Option("of the canvas, likewise")] = None
    any_size: Annotated[bool, Option("canvases of any height and width that are multiples of 32")] = False
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], Option("of the network; AP is measured beside PyTorch's if it is not fp32")
    ] = "fp32"
    data: Annotated[Path | None, Option("data set to verify on, and to score; drawn noise without one")] = None
    verify_images: Annotated[int, Option("number of images to verify on")] = 16
    calibration_split: Annotated[
        str | None, Option("which part of the data set int8 is calibrated on, instead of train, or the only one")
    ] = None
    calibration_images: Annotated[int, Option("number of images to calibrate on")] = 64
    score: Annotated[bool, Option("measure AP in fp32 too")] = False
    ap_drop: Annotated[float, Option("AP, 0 to 100, that may be lost")] = 1.0

    def run(self) -> None:
        """Exports, verifies, and tells what was compared."""
        if (self.height is None) != (self.width is None):
            raise DetdistillError("--height and --width belong together: give both")
        if self.data is None and (self.precision != "fp32" or self.score):
            raise DetdistillError(
                f"{'--score' if self.score else self.precision} needs --data: what it costs is measured there"
            )
        from detdistill.deploy.export import export

        size = None if self.height is None or self.width is None else (self.height, self.width)
        found = export(
            self.run_folder,
            self.out,
            form=self.form,
            precision=self.precision,
            size=size,
            any_size=self.any_size,
            dataset=self.opened_if_given(self.data),
            images=self.verify_images,
            calibration=self._calibration(),
            calibration_images=self.calibration_images,
            scored=self.score,
            tolerated=self.ap_drop / 100,
        )
        print(f"{self.out}: {self.out.stat().st_size / 2**20:.1f} MiB, {self.precision}")
        print(f"verified in fp32 on {found.verification}")
        if found.change is not None:
            print(found.change)

    def _calibration(self) -> DetectionDataset | None:
        """What int8 is calibrated on: images that are not scored, where there are any."""
        if self.data is None or self.precision != "int8":
            return None
        from detdistill.data.opening import find_splits

        names = [split.name for split in find_splits(self.data, annotations=self.annotations)]
        split = self.calibration_split or (TRAIN if TRAIN in names else self.split)
        dataset = replace(self, split=split).opened(self.data)
        print(f"calibrated on {min(self.calibration_images, len(dataset.images))} images of {dataset.source}")
        return dataset
