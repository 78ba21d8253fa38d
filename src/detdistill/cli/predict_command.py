"""`detdistill predict`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from detdistill.core.console import print_err, print_out
from detdistill.core.errors import DetdistillError


@dataclass(frozen=True)
class Predict:
    """Find objects in images: images with boxes, COCO-results JSON, and a table by class.

    A detection counts if its score reaches the threshold of its class, which `evaluate --store-thresholds` keeps in the
    run's folder. Unreadable images are reported and skipped.
    """

    run_folder: Annotated[Path, Parameter(help="Folder of a trained, distilled or imported detector.")]
    paths: Annotated[list[str], Parameter(help="Images, folders of images, or patterns such as 'shots/*.jpg'.")]
    _: KW_ONLY
    out: Annotated[Path | None, Parameter(help="Output folder of the images with boxes.")] = None
    image_format: Annotated[
        Literal["jpg", "png"] | None,
        Parameter(
            help="Format of the images in --out, jpg or png. Default: png for PNG and GIF files, jpg for all others."
        ),
    ] = None
    json: Annotated[
        Path | None,
        Parameter(help="COCO-results JSON to write, with file and class names. `evaluate --detections` scores it."),
    ] = None
    threshold: Annotated[
        float | None, Parameter(help="Least score, 0 to 1, of all classes. Default: the run's thresholds, else 0.3.")
    ] = None
    short_side: Annotated[int | None, Parameter(help="Pixels of the shorter side. Default: as in training.")] = None
    long_side: Annotated[
        int | None, Parameter(help="Upper limit of the longer side, in pixels. Default: as in training.")
    ] = None
    height: Annotated[
        int | None,
        Parameter(help="Height in pixels of one canvas for all images, a multiple of 32, as of an exported file."),
    ] = None
    width: Annotated[int | None, Parameter(help="Width in pixels of one canvas for all images, a multiple of 32.")] = (
        None
    )
    class_agnostic_nms: Annotated[bool, Parameter(help="NMS among the boxes of all classes.")] = False
    batch_size: Annotated[int, Parameter(help="Images at a time.")] = 8
    bf16: Annotated[bool, Parameter(help="Run the network in bfloat16.")] = False
    channels_last: Annotated[bool, Parameter(help="Store images with the channels innermost, often faster.")] = False
    device: Annotated[str | None, Parameter(help="Device, such as cpu or cuda:1. Default: a GPU if there is one.")] = (
        None
    )

    def run(self) -> None:
        """Predicts and prints the counts.

        Raises:
            DetdistillError: An option or path cannot be used, or an image could not be read.
        """
        from detdistill.cli.text_table import print_table
        from detdistill.core.image_options import canvas_of
        from detdistill.detectors.running import InferenceOptions
        from detdistill.evaluation.predict_images import predict_images

        found = predict_images(
            self.run_folder,
            self.paths,
            out=self.out,
            image_format=self.image_format,
            json=self.json,
            threshold=self.threshold,
            short_side=self.short_side,
            long_side=self.long_side,
            canvas=canvas_of(self.height, self.width),
            class_agnostic=self.class_agnostic_nms,
            device=self.device,
            options=InferenceOptions(self.batch_size, 0, self.bf16, self.channels_last),
        )
        rows = [(name, str(count.detections), str(count.images)) for name, count in found.counts.items()]
        print_table(("class", "detections", "in images"), rows)
        print_out(f"\n{found.detections} detections in {found.images} images")
        if self.out is not None and found.images:
            print_out(f"pictures in {self.out}")
        for reason in found.unreadable.values():
            print_err(f"left out: {reason}")
        if found.unreadable:
            total = found.images + len(found.unreadable)
            raise DetdistillError(f"{len(found.unreadable)} of {total} images could not be read, see above")
