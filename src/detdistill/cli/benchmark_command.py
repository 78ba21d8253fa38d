"""`detdistill benchmark`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from detdistill.cli.source import Source
from detdistill.core.console import print_out

if TYPE_CHECKING:
    from detdistill.deploy.benchmarking import Benchmark as Measured


@dataclass(frozen=True)
class Benchmark(Source):
    """Measure detectors side by side: parameters, multiply-accumulates, latency, images per second, AP.

    From pixels to detections on the CPU, post-processing included, in PyTorch (eager, channels last, bfloat16) and in
    onnxruntime. Measurements are interleaved so that background load affects all detectors equally.
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
        """Measures and prints."""
        from detdistill.deploy.benchmarking import benchmark

        found = benchmark(
            self.run_folders,
            self.source_if_given(self.data),
            batch_size=self.batch_size,
            rounds=self.rounds,
            threads=self.threads,
            json=self.json,
        )
        _print(found)
        threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
        print_out(f"\n{found.machine}, {threads}, medians of {found.rounds} rounds; MACs of the network for an image")


def _print(found: Measured) -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.core.texts import points

    print_table(
        ("detector", "AP", "parameters", "MACs", "file", "canvas"),
        [
            (
                name,
                points(found.AP[name]),
                f"{size.parameters / 1e6:.2f} M",
                "–" if size.macs is None else f"{size.macs / 1e9:.2f} G",
                f"{size.file_bytes / 2**20:.1f} MiB",
                f"{size.canvas[0]}x{size.canvas[1]}",
            )
            for name, size in found.sizes.items()
        ],
    )
    print_out()
    names = list(found.sizes)
    rows = [
        (
            f"{speed.name}, {speed.engine}",
            str(speed.batch),
            f"{1000 * speed.p50:.1f}",
            f"{1000 * speed.p95:.1f}",
            f"{speed.images_per_second:.1f}",
        )
        for speed in sorted(found.speeds, key=lambda one: (one.batch, names.index(one.name)))
    ]
    print_table(("", "batch", "ms, median", "ms, 95th percentile", "images/s"), rows)
