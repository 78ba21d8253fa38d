"""`detdistill benchmark`."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from detdistill.cli.source import Source

if TYPE_CHECKING:
    from detdistill.core.annotations import DetectionDataset
    from detdistill.deploy.latency import Size, Speed


@dataclass(frozen=True)
class Benchmark(Source):
    """Measure detectors side by side: parameters, multiply-accumulates, latency, images per second, AP.

    From pixels to detections on the CPU, post-processing included, in PyTorch (eager, channels last, bfloat16) and in
    onnxruntime. All take turns, so that other work on the machine hits all alike.
    """

    run_folders: Annotated[list[Path], Parameter(help="Folders of trained, distilled or imported detectors.")]
    _: KW_ONLY
    batch_size: Annotated[int, Parameter(help="Images at a time, in addition to one.")] = 8
    rounds: Annotated[int, Parameter(help="Number of measurements of each detector.")] = 20
    threads: Annotated[int, Parameter(help="Threads of PyTorch and of onnxruntime.")] = 1
    data: Annotated[Path | None, Parameter(help="Dataset to score the detectors on; the canvas holds its images.")] = (
        None
    )
    json: Annotated[Path | None, Parameter(help="Output file (JSON) of the numbers.")] = None

    def run(self) -> None:
        """Measures, prints and writes."""
        import json

        from detdistill.cli.analyze_command import names_of
        from detdistill.core.environment import machine
        from detdistill.core.files import write_atomically
        from detdistill.deploy.latency import sizes_of, speeds_of

        folders = dict(zip(names_of(self.run_folders), self.run_folders, strict=True))
        dataset = self.opened_if_given(self.data)
        images = () if dataset is None else dataset.images
        sizes = sizes_of(folders, images)
        speeds = speeds_of(
            folders, images, batches=sorted({1, self.batch_size}), rounds=self.rounds, threads=self.threads
        )
        scores = {name: None if dataset is None else _ap(folder, dataset) for name, folder in folders.items()}
        _print(sizes, speeds, scores)
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        print(f"\n{machine()}, {threads}, medians of {self.rounds} rounds; MACs of the network for an image")
        if self.json is not None:
            numbers = {
                "machine": machine(),
                "threads": self.threads,
                "rounds": self.rounds,
                "detectors": {name: {**asdict(size), "AP": scores[name]} for name, size in sizes.items()},
                "speeds": [{**asdict(speed), "images_per_second": speed.images_per_second} for speed in speeds],
            }
            write_atomically(self.json, json.dumps(numbers, indent=1) + "\n")


def _ap(folder: Path, dataset: DetectionDataset) -> float | None:
    from detdistill.detectors.storage import load_detector
    from detdistill.evaluation.coco_metrics import coco_metrics
    from detdistill.evaluation.evaluating import run_options
    from detdistill.evaluation.score import score

    return score(load_detector(folder), dataset, run_options(folder), coco_metrics).AP


def _print(sizes: dict[str, Size], speeds: list[Speed], scores: dict[str, float | None]) -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.core.texts import points

    print_table(
        ("detector", "AP", "parameters", "MACs", "file", "canvas"),
        [
            (
                name,
                points(scores[name]),
                f"{size.parameters / 1e6:.2f} M",
                "–" if size.macs is None else f"{size.macs / 1e9:.2f} G",
                f"{size.file_bytes / 2**20:.1f} MiB",
                f"{size.canvas[0]}x{size.canvas[1]}",
            )
            for name, size in sizes.items()
        ],
    )
    print()
    rows: list[Any] = [
        (
            f"{speed.name}, {speed.engine}",
            str(speed.batch),
            f"{1000 * speed.p50:.1f}",
            f"{1000 * speed.p95:.1f}",
            f"{speed.images_per_second:.1f}",
        )
        for speed in sorted(speeds, key=lambda one: (one.batch, list(sizes).index(one.name)))
    ]
    print_table(("", "batch", "ms, median", "ms, 95th percentile", "images/s"), rows)
