"""How large and how fast detectors are, all of them measured in turns so that a busy machine hits all alike."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from detdistill.core.annotations import ImageRecord
from detdistill.core.errors import DetdistillError
from detdistill.core.onnx_runtime import check_installed, session
from detdistill.deploy.canvases import usual_canvas
from detdistill.deploy.onnx import EXPORTING, export_onnx
from detdistill.detectors.base import Detector
from detdistill.detectors.running import output_of
from detdistill.detectors.storage import load_detector, read_description

Engine = Literal["eager", "channels_last", "bf16", "onnxruntime"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
WARM_UP = 3
"""Rounds that do not count."""
OPERATIONS_PER_MAC = 2
"""torch counts a multiplication and an addition as two operations."""

Work = Callable[[], object]


@dataclass(frozen=True)
class Size:
    """How large a detector is.

    Attributes:
        parameters: their number.
        macs: multiply-accumulates of the network for one image, after torch's own count of operations (convolutions
            and matrix products) halved; None where torch cannot count.
        file_bytes: of `model.safetensors`.
        canvas: height and width in pixels.
    """

    parameters: int
    macs: int | None
    file_bytes: int
    canvas: tuple[int, int]


@dataclass(frozen=True)
class Speed:
    """From pixels to detections: normalization, network, post-processing.

    Attributes:
        name: of the detector.
        engine: what computes.
        batch: images at a time.
        p50: seconds for a batch, the median.
        p95: seconds, the 95th percentile.
    """

    name: str
    engine: Engine
    batch: int
    p50: float
    p95: float

    @property
    def images_per_second(self) -> float:
        """At the median."""
        return self.batch / self.p50


def sizes_of(folders: Mapping[str, Path], images: Sequence[ImageRecord] = ()) -> dict[str, Size]:
    """How large the detectors of run folders are.

    Args:
        folders: by name.
        images: whose most frequent canvas is taken; without any, the wide canvas of the run's image size.

    Raises:
        DetdistillError: a folder cannot be used.
    """
    found = {}
    for name, folder in folders.items():
        detector = load_detector(folder).eval()
        canvas = usual_canvas(folder, read_description(folder).input.size, images)
        found[name] = Size(
            sum(parameter.numel() for parameter in detector.parameters()),
            _macs(detector, canvas),
            (folder / "model.safetensors").stat().st_size,
            canvas,
        )
    return found


def _macs(detector: Detector, canvas: tuple[int, int]) -> int | None:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        detector(torch.zeros(1, 3, *canvas))
    operations: int = counter.get_total_flops()
    return operations // OPERATIONS_PER_MAC if operations else None


def speeds_of(
    folders: Mapping[str, Path],
    images: Sequence[ImageRecord] = (),
    *,
    engines: Sequence[Engine] = ENGINES,
    batches: Sequence[int] = (1, 8),
    rounds: int = 20,
    threads: int = 1,
) -> list[Speed]:
    """How fast the detectors of run folders are on this machine's CPU.

    Args:
        folders: by name.
        images: as in `sizes_of`.
        engines: PyTorch as it is, with the channels innermost, that in bfloat16, and onnxruntime.
        batches: images at a time.
        rounds: times that each is measured.
        threads: of PyTorch and of onnxruntime; PyTorch has its own number again afterwards.

    Raises:
        DetdistillError: a folder cannot be used, or the extra `export` is missing.
    """
    if rounds < 1 or threads < 1 or not batches or min(batches) < 1:
        raise DetdistillError(
            f"rounds, threads and batches must be at least 1, not {rounds}, {threads} and "
            f"{', '.join(map(str, batches)) or 'none'}"
        )
    works: dict[tuple[str, Engine, int], Work] = {}
    with tempfile.TemporaryDirectory() as scratch, _threads(threads):
        for name, folder in folders.items():
            canvas = usual_canvas(folder, read_description(folder).input.size, images)
            file = Path(scratch) / f"{len(works)}.onnx"
            if "onnxruntime" in engines:
                check_installed(*EXPORTING)
                export_onnx(folder, file, size=canvas)
            for batch in batches:
                pixels, sizes = _noise(batch, canvas)
                for engine in engines:
                    works[name, engine, batch] = _work(folder, file, engine, pixels, sizes, threads)
        taken = _in_turns(works, rounds)
    return [
        Speed(name, engine, batch, float(np.median(times)), float(np.quantile(times, 0.95)))
        for (name, engine, batch), times in taken.items()
    ]


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _noise(batch: int, canvas: tuple[int, int]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, *canvas), dtype=torch.uint8, generator=random)
    return images, torch.tensor([canvas] * batch)


def _work(folder: Path, file: Path, engine: Engine, images: Tensor, sizes: Tensor, threads: int) -> Work:
    if engine == "onnxruntime":
        runner, feed = session(file, threads), {"images": images.numpy(), "sizes": sizes.numpy()}
        return lambda: runner.run(None, feed)
    detector = load_detector(folder).eval()
    innermost = engine != "eager"
    if innermost:
        detector.to(memory_format=torch.channels_last)

    def work() -> object:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=engine == "bf16"):
            return detector.detect(output_of(detector, images, sizes, channels_last=innermost), sizes)

    return work


def _in_turns(works: Mapping[tuple[str, Engine, int], Work], rounds: int) -> dict[tuple[str, Engine, int], list[float]]:
    taken: dict[tuple[str, Engine, int], list[float]] = {key: [] for key in works}
    for number in range(WARM_UP + rounds):
        for key, work in works.items():
            start = time.perf_counter()
            work()
            if number >= WARM_UP:
                taken[key].append(time.perf_counter() - start)
    return taken
