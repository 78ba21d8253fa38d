"""`detdistill predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from detdistill.core.errors import DataError, DetdistillError

if TYPE_CHECKING:
    from detdistill.core.structures import Detections
    from detdistill.detectors.predicting import Pixels
    from detdistill.report.image_saving import ImageFormat


@dataclass(frozen=True)
class Predict:
    """Find objects in images: pictures with boxes, COCO-results JSON, and a table by class.

    A detection counts from its class's threshold on, which `evaluate --store-thresholds` keeps in the run's folder. An
    image that cannot be read is told, and the rest goes on.
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
        """Predicts, writes and prints."""
        from detdistill.cli.evaluate_command import canvas_of
        from detdistill.core.files import write_atomically
        from detdistill.data.finding import find_pictures
        from detdistill.detectors.predicting import USUAL_THRESHOLD, above, detect_in_images
        from detdistill.detectors.running import InferenceOptions, chosen_device
        from detdistill.detectors.storage import load_detector, read_description
        from detdistill.evaluation.evaluating import run_options
        from detdistill.evaluation.results_file import ids_of_files

        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise DetdistillError(f"--threshold must lie between 0 and 1, not {self.threshold}")
        description = read_description(self.run_folder)
        canvas = canvas_of(self.height, self.width)
        images = run_options(self.run_folder, short_side=self.short_side, long_side=self.long_side, canvas=canvas)
        thresholds = {} if self.threshold is not None else dict(description.score_thresholds or {})
        usual = USUAL_THRESHOLD if self.threshold is None else self.threshold
        options = InferenceOptions(self.batch_size, 0, self.bf16, self.channels_last)
        detector = load_detector(self.run_folder).to(chosen_device(self.device))
        if self.class_agnostic_nms:
            detector.postprocessing = replace(detector.postprocessing, class_agnostic=True)
        files = find_pictures(self.paths)
        reading = Reading(files)
        ids = dict(zip(files, ids_of_files(files), strict=True))
        entries: list[dict[str, Any]] = []
        drawing = Drawing(self.out, description.classes, files, self.image_format)
        counts = {name: [0, 0] for name in description.classes}
        found = detect_in_images(detector, (picture for _, picture in reading.pictures()), images, options)
        for one in found:
            file, picture = reading.next()
            shown = above(one, description.classes, thresholds, usual)
            entries += _entries(file, ids[file], description.classes, shown)
            drawing.draw(file, picture, shown)
            for label in shown.labels.tolist():
                counts[description.classes[label]][0] += 1
            for label in set(shown.labels.tolist()):
                counts[description.classes[label]][1] += 1
        if self.json is not None:
            write_atomically(self.json, json.dumps(entries, ensure_ascii=False, allow_nan=False))
        _print(counts, len(files) - len(reading.broken), self.out)
        if reading.broken:
            raise DetdistillError(f"{len(reading.broken)} of {len(files)} images could not be read, see above")


@dataclass
class Reading:
    """Reads files one after the other, keeps each until its detections are there, and tells of broken ones."""

    files: list[Path]
    broken: list[Path] = field(default_factory=list)
    waiting: list[tuple[Path, Pixels]] = field(default_factory=list)

    def pictures(self) -> Iterator[tuple[Path, Pixels]]:
        """The files that can be read."""
        from detdistill.core.images import read_image
        from detdistill.core.progress import track

        for file in track(self.files, "images"):
            try:
                picture = read_image(file)
            except DataError as error:
                print(f"left out: {error}", file=sys.stderr)
                self.broken.append(file)
                continue
            self.waiting.append((file, picture))
            yield file, picture

    def next(self) -> tuple[Path, Pixels]:
        """The file whose detections come next."""
        return self.waiting.pop(0)


@dataclass
class Drawing:
    """Writes images with boxes into a folder, each under its file's name; of files with the same name each is numbered.

    Attributes:
        folder: where to write; None to write nothing.
        classes: names of the labels.
        files: all input images, none of which may lie in the folder: it would be overwritten.
        image_format: of the drawings; None for PNG on PNG and GIF files, and JPEG on all others.
        taken: names in use, in lower case, because some file systems do not tell the cases apart.
    """

    folder: Path | None
    classes: tuple[str, ...]
    files: Sequence[Path] = ()
    image_format: ImageFormat | None = None
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Create the folder, unless input images lie in it."""
        if self.folder is None:
            return
        folder = self.folder.resolve()
        inside = next((file for file in self.files if file.resolve().parent == folder), None)
        if inside is not None:
            raise DetdistillError(
                f"--out {self.folder}: this folder holds the input image {inside.name}, which a drawing may overwrite; "
                "name another folder"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DetdistillError(f"--out {self.folder}: the folder cannot be created ({error.strerror})") from error

    def draw(self, file: Path, picture: Pixels, found: Detections) -> None:
        """Write one drawing, or nothing without a folder."""
        if self.folder is None:
            return
        from detdistill.report.drawing import draw_detections
        from detdistill.report.image_saving import format_like, save_image

        ending = self.image_format or format_like(file)
        name, number = f"{file.stem}.{ending}", 1
        while name.lower() in self.taken:
            number += 1
            name = f"{file.stem}_{number}.{ending}"
        self.taken.add(name.lower())
        save_image(draw_detections(picture, found, self.classes), self.folder / name)


def _entries(file: Path, image_id: str, classes: Sequence[str], found: Detections) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image_id,
            "file_name": str(file),
            "category_id": label + 1,
            "category_name": classes[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def _print(counts: dict[str, list[int]], images: int, out: Path | None) -> None:
    from detdistill.cli.text_table import print_table

    print_table(
        ("class", "detections", "in images"), [(name, *(str(count) for count in both)) for name, both in counts.items()]
    )
    print(f"\n{sum(count for count, _ in counts.values())} detections in {images} images")
    if out is not None and images:
        print(f"pictures in {out}")
