"""`detdistill predict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    With `--store`, a teacher predicts every image of a dataset once. `distill --teacher` takes the folder.
    """

    run_folder: Annotated[
        str, Parameter(help="Folder of a trained, distilled or imported detector; with --store, any teacher.")
    ]
    paths: Annotated[
        list[str],
        Parameter(
            help="Images, folders of images, or patterns such as 'shots/*.jpg'; with --store, one of them or a dataset."
        ),
    ]
    _: KW_ONLY
    store: Annotated[
        Path | None,
        Parameter(help="Folder to store a teacher's boxes in. Images that it holds are not predicted again."),
    ] = None
    split: Annotated[
        str | None, Parameter(help="Part of the dataset, such as train. Default: all parts. Only with --store.")
    ] = None
    top_k: Annotated[
        int | None,
        Parameter(help="Classes whose probabilities are stored for each box. Default: 5. Only with --store."),
    ] = None
    floor: Annotated[
        float | None,
        Parameter(
            help="Score, 0 to 1, below which nothing is stored. Default: a detector's own or 0.05. Only with --store."
        ),
    ] = None
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
    workers: Annotated[int | None, Parameter(help="Processes that load images. Default: 0. Only with --store.")] = None
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
        _refuse(self, ONLY_IMAGES if self.store is not None else ONLY_STORING, with_store=self.store is not None)
        if self.store is not None:
            self._store(self.store)
        else:
            self._predict()

    def _store(self, folder: Path) -> None:
        from detdistill.data.source import DatasetSource
        from detdistill.detectors.running import InferenceOptions
        from detdistill.evaluation.storing import store_detections

        if len(self.paths) != 1:
            raise DetdistillError(f"--store takes one dataset, not {len(self.paths)} paths: {', '.join(self.paths)}")
        found = store_detections(
            self.run_folder,
            DatasetSource(self.paths[0], self.split),
            folder,
            top_k=5 if self.top_k is None else self.top_k,
            floor=self.floor,
            short_side=self.short_side,
            long_side=self.long_side,
            device=self.device,
            options=InferenceOptions(self.batch_size, self.workers or 0, self.bf16, self.channels_last),
        )
        for split, count in found.predicted.items():
            before = found.before[split]
            print_out(f"{split}: {count} images predicted" + (f", {before} stored before" if before else ""))
        print_out(f"{found.boxes} boxes added to {folder}")
        _report(found.unreadable, sum(found.predicted.values()) + len(found.unreadable))

    def _predict(self) -> None:
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
        _report(found.unreadable, found.images + len(found.unreadable))


ONLY_STORING = ("split", "top_k", "floor", "workers")
ONLY_IMAGES = ("out", "image_format", "json", "threshold", "height", "width", "class_agnostic_nms")
"""Options that need `--store`, and options that do not go together with it."""


def _refuse(command: Predict, names: Sequence[str], *, with_store: bool) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if _is_given(getattr(command, name))]
    if given:
        needed = "do not go together with --store" if with_store else "need --store"
        raise DetdistillError(f"{', '.join(given)}: these options {needed}")


def _is_given(value: object) -> bool:
    """Whether an option has another value than its default, of options whose default is None or False."""
    return value is not None and value is not False


def _report(unreadable: Mapping[Path, str], total: int) -> None:
    """Print why images were left out.

    Raises:
        DetdistillError: Some were.
    """
    for reason in unreadable.values():
        print_err(f"left out: {reason}")
    if unreadable:
        raise DetdistillError(f"{len(unreadable)} of {total} images could not be read, see above")
