"""`detdistill export`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from detdistill.cli.source import Source
from detdistill.core.console import print_out


@dataclass(frozen=True)
class Export(Source):
    """Write a detector as an ONNX file, and verify it: onnxruntime must find what PyTorch finds.

    The file takes any batch size. Normalization is inside; class names and everything else that a program needs are in
    its metadata. Where all images of the dataset share a canvas, the file takes this one, else canvases of any size.
    """

    run_folder: Annotated[Path, Parameter(help="Folder of a trained, distilled or imported detector.")]
    _: KW_ONLY
    out: Annotated[Path, Parameter(help="Output file; the name ends in .onnx.")]
    format: Annotated[Literal["onnx"], Parameter(help="File format.")] = "onnx"
    form: Annotated[
        Literal["end_to_end", "raw"],
        Parameter(help="Detections, with NMS inside the file; or all scores and boxes."),
    ] = "end_to_end"
    height: Annotated[
        int | None,
        Parameter(help="Height in pixels of a fixed canvas, a multiple of 32; larger images are shrunk to fit."),
    ] = None
    width: Annotated[int | None, Parameter(help="Width in pixels of a fixed canvas, a multiple of 32.")] = None
    any_size: Annotated[bool, Parameter(help="Canvases of any height and width that are multiples of 32.")] = False
    class_agnostic_nms: Annotated[bool, Parameter(help="NMS among the boxes of all classes.")] = False
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        Parameter(help="Precision of the network. AP is compared with PyTorch's unless it is fp32."),
    ] = "fp32"
    data: Annotated[Path | None, Parameter(help="Dataset to verify and score on. Default: random noise.")] = None
    verify_images: Annotated[int, Parameter(help="Number of images to verify on, drawn at random.")] = 16
    calibration_split: Annotated[
        str | None,
        Parameter(help="Split that int8 is calibrated on. Default: train, else the one that is scored."),
    ] = None
    calibration_images: Annotated[int, Parameter(help="Number of images to calibrate on, drawn at random.")] = 64
    score: Annotated[bool, Parameter(help="Measure AP in fp32, too.")] = False
    ap_drop: Annotated[float, Parameter(help="Largest loss of AP, 0 to 100.")] = 1.0

    def run(self) -> None:
        """Export, verify, and print what was compared."""
        from detdistill.core.image_options import canvas_of
        from detdistill.deploy.export import export

        dataset = self.source_if_given(self.data)
        named = dataset is not None and self.calibration_split is not None
        found = export(
            self.run_folder,
            self.out,
            form=self.form,
            precision=self.precision,
            size=canvas_of(self.height, self.width),
            any_size=self.any_size,
            class_agnostic=self.class_agnostic_nms,
            dataset=dataset,
            images=self.verify_images,
            calibration=replace(self, split=self.calibration_split).source_if_given(self.data) if named else None,
            calibration_images=self.calibration_images,
            scored=self.score,
            tolerated=self.ap_drop / 100,
        )
        if found.calibrated_on is not None:
            print_out(f"calibrated on {found.calibrated_on}")
        print_out(f"{self.out}: {self.out.stat().st_size / 2**20:.1f} MiB, {self.precision}")
        canvas = "any multiples of 32" if found.canvas is None else f"{found.canvas[0]}x{found.canvas[1]}"
        print_out(f"canvas: {canvas}")
        if found.other_canvases:
            print_out(
                f"note: {found.other_canvases} images have another canvas than the file; detections in them may "
                "differ from those of `detdistill predict`. Measure it with --score, or export with --any-size"
            )
        print_out(f"verified in fp32 on {found.verification}")
        if found.change is not None:
            print_out(found.change)
