"""Detectors side by side: sizes, speeds and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from detdistill.core.environment import machine
from detdistill.core.errors import DetdistillError
from detdistill.core.json_files import write_json
from detdistill.core.overwriting import check_outputs
from detdistill.core.run_names import names_of
from detdistill.data.source import DatasetLike, check_dataset_outputs, opened
from detdistill.deploy.latency import Size, Speed, sizes_of, speeds_of
from detdistill.detectors.storage import files_of_detector, load_detector
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.evaluating import run_options, warn_if_trained_on
from detdistill.evaluation.score import score


@dataclass(frozen=True)
class Benchmark:
    """What was measured of several detectors on one machine.

    Attributes:
        machine: System, processor and number of cores.
        threads: Of PyTorch and of onnxruntime.
        rounds: Number of measurements of each speed.
        sizes: How large each detector is, by its name.
        AP: COCO's AP, 0 to 1, by name; None without a dataset, or where it is undefined.
        speeds: How fast each detector is, for each engine and batch size.
    """

    machine: str
    threads: int
    rounds: int
    sizes: Mapping[str, Size]
    AP: Mapping[str, float | None]
    speeds: Sequence[Speed]

    def to_values(self) -> dict[str, Any]:
        """Return the report of JSON types, times in seconds."""
        return {
            "machine": self.machine,
            "threads": self.threads,
            "rounds": self.rounds,
            "detectors": {name: {**asdict(size), "AP": self.AP[name]} for name, size in self.sizes.items()},
            "speeds": [{**asdict(speed), "images_per_second": speed.images_per_second} for speed in self.speeds],
        }


def benchmark(
    folders: Sequence[str | PathLike[str]],
    dataset: DatasetLike | None = None,
    *,
    batch_size: int = 8,
    rounds: int = 20,
    threads: int = 1,
    json: str | PathLike[str] | None = None,
) -> Benchmark:
    """Measure detectors side by side, on this machine's CPU, in turns.

    A warning on standard error says if a detector was trained on these images.

    Args:
        folders: Different folders of trained, distilled or imported detectors, at least one. Their names in the report
            are the last parts of their paths.
        dataset: Dataset to score them on, or where it is; its most frequent canvas is measured. None: no score, and the
            wide canvas of each detector's own image size.
        batch_size: Images at a time, in addition to one.
        rounds: Number of measurements of each speed.
        threads: Of PyTorch and of onnxruntime.
        json: File to write with `Benchmark.to_values()`.

    Raises:
        DetdistillError: A folder cannot be used or is given twice, a number is below 1, the extra `export` is missing,
            or the output cannot be written or would replace an input.
        DataError: The dataset cannot be opened, or has classes that a detector does not know.
    """
    if not folders:
        raise DetdistillError("folders: none given; expected at least one run folder")
    named = {name: Path(folder) for name, folder in zip(names_of(folders), folders, strict=True)}
    truth = None if dataset is None else opened(dataset)
    if json is not None:
        check_outputs({Path(json): "--json"}, [file for folder in named.values() for file in files_of_detector(folder)])
        if dataset is not None and truth is not None:
            check_dataset_outputs({Path(json): "--json"}, dataset, truth)
    images = () if truth is None else truth.images
    sizes = sizes_of(named, images)
    speeds = speeds_of(named, images, batches=sorted({1, batch_size}), rounds=rounds, threads=threads)
    scores: dict[str, float | None] = dict.fromkeys(named)
    if truth is not None:
        for name, folder in named.items():
            warn_if_trained_on(folder, truth)
            scores[name] = score(load_detector(folder), truth, run_options(folder), coco_metrics).AP
    found = Benchmark(machine(), threads, rounds, sizes, scores, speeds)
    if json is not None:
        write_json(Path(json), found.to_values(), indent=1)
    return found
