"""What fp16 and int8 give and cost in onnxruntime: python -m benchmarks.precisions RUN --data DATA [--split val].

AP on the data set, file size, and the median time of an image in turns, so that a busy machine hits all alike.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from detdistill.core.environment import machine
from detdistill.core.image_options import ImageOptions, rounded_up
from detdistill.core.onnx_runtime import session
from detdistill.core.progress import track
from detdistill.data.opening import open_dataset
from detdistill.deploy.canvases import photographs
from detdistill.deploy.export import Precision, export
from detdistill.detectors.saving import WEIGHTS
from detdistill.detectors.storage import load_detector

ROUNDS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(options.data, options.split)
    train = open_dataset(options.data, "train")
    detector = load_detector(options.run)
    images = detector.input.size
    assert isinstance(images, ImageOptions)
    side = rounded_up(images.letterbox or images.long_side)
    cases: dict[str, tuple[Precision, tuple[int, int] | None]] = {
        "fp32": ("fp32", None),
        "fp16": ("fp16", None),
        "int8": ("int8", None),
        "fp32 on a square": ("fp32", (side, side)),
    }
    table = {}
    with tempfile.TemporaryDirectory() as scratch:
        sessions = {}
        for name, (precision, size) in cases.items():
            file = Path(scratch) / f"{name}.onnx"
            found = export(
                options.run,
                file,
                precision=precision,
                size=size,
                dataset=dataset,
                calibration=train,
                scored=True,
                tolerated=1.0,
            ).change
            assert found is not None
            table["PyTorch"] = {"AP": found.pytorch, "MiB": (options.run / WEIGHTS).stat().st_size / 2**20}
            table[name] = {"AP": found.exported, "MiB": file.stat().st_size / 2**20}
            if size is None:
                sessions[name] = session(file)
        pixels, sizes = next(iter(photographs(dataset, images, 1)))
        canvas = tuple(pixels.shape[2:])
        feed = {"images": pixels.numpy(), "sizes": sizes.numpy()}
        taken: dict[str, list[float]] = {name: [] for name in (*sessions, "PyTorch")}
        for _ in track(range(ROUNDS), "rounds"):
            for name, runner in sessions.items():
                start = time.perf_counter()
                runner.run(None, feed)
                taken[name].append(time.perf_counter() - start)
            start = time.perf_counter()
            with torch.no_grad():
                detector.detect(detector(detector.input.normalization(pixels, sizes)), sizes)
            taken["PyTorch"].append(time.perf_counter() - start)
    for name, times in taken.items():
        table[name]["ms"] = 1000 * median(times)
    for name, row in table.items():
        milliseconds = f"{row['ms']:6.1f} ms" if "ms" in row else ""
        print(f"{name:17} AP {100 * row['AP']:5.1f}  {row['MiB']:6.1f} MiB  {milliseconds}")
    print(f"canvas {canvas[0]}x{canvas[1]}, 1 thread, medians of {ROUNDS} rounds in turns, {machine()}")
    if options.json is not None:
        content = {"machine": machine(), "run": options.run.name, "images": len(dataset.images), "table": table}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
