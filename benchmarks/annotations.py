"""Reading annotations of COCO's size: time and memory beside pycocotools, and what loading processes add.

    OMP_NUM_THREADS=1 python benchmarks/annotations.py [--images 118287] [--objects 860001] [--rounds 3] [--peer]

A synthetic COCO file with polygons is written into a temporary folder; the defaults give the number of images and
objects of COCO's train2017 and a file of about its size. Each reading is a process of its own: seconds of the processor
after the imports, the peak of its resident memory (VmHWM), and what it holds at the end (VmRSS), each with the
interpreter and NumPy, which take what `imports` says. The second start takes the annotations from the cache.

`workers` iterates over the evaluation batches of the dataset with four loading processes, without decoding images, and
sums the proportional set size of the four when the first batches have come and at the end of the epoch.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np

SIDES = 640, 480
CORNERS = 20  # of a polygon: annotations of about 440 bytes, as COCO's
AT_ONCE = 10_000
WORKERS = 4


def write(file: Path, images: int, objects: int, corners: int) -> None:
    """Write a COCO file of random boxes and polygons."""
    random = np.random.default_rng(0)
    with file.open("w", encoding="utf-8") as stream:
        stream.write('{"images": [')
        for number in range(images):
            entry = {"file_name": f"{number:012d}.jpg", "height": SIDES[1], "width": SIDES[0], "id": number}
            links = {"license": 3, "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg"}
            stream.write(", " * (number > 0) + json.dumps(links | entry))
        stream.write('], "annotations": [')
        for start in range(0, objects, AT_ONCE):
            count = min(AT_ONCE, objects - start)
            image, label = random.integers(0, images, count).tolist(), random.integers(1, 81, count).tolist()
            boxes = random.uniform((0, 0, 2, 2), (400, 300, 200, 150), (count, 4)).round(2).tolist()
            polygons = random.uniform(0, 480, (count, 2 * corners)).round(2).tolist()
            for offset in range(count):
                box = boxes[offset]
                entry = {
                    "segmentation": [polygons[offset]] if corners else [],
                    "area": box[2] * box[3] / 2,
                    "iscrowd": 0,
                    "image_id": image[offset],
                    "bbox": box,
                    "category_id": label[offset],
                    "id": start + offset,
                }
                stream.write(", " * (start + offset > 0) + json.dumps(entry))
        categories = [{"id": number, "name": f"class {number}"} for number in range(1, 81)]
        stream.write(f'], "categories": {json.dumps(categories)}}}')


def measure(what: str, file: Path, cache: Path | None) -> dict[str, float]:
    """Run one reading in a process of its own."""
    command = [sys.executable, __file__, "--run", what, "--file", str(file)]
    variables = os.environ | {"DETDISTILL_CACHE": "off" if cache is None else str(cache)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(what: str, file: Path) -> dict[str, float]:
    """Read in this process, and tell what it took."""
    # Torch, which the environment's description needs, would hide what the annotations take.
    if what == "peer":
        from pycocotools.coco import COCO

        read: Callable[[str], object] = COCO
    else:
        from detdistill.data import open_dataset

        read = partial(open_dataset, check_images=False)
    imports = _memory("VmRSS")
    start, clock = time.process_time(), time.monotonic()
    known = read(str(file))
    seconds = {"processor_seconds": time.process_time() - start, "seconds": time.monotonic() - clock}
    found = {**seconds, "peak": _memory("VmHWM"), "afterwards": _memory("VmRSS"), "imports": imports}
    del known
    return found


def epoch(file: Path) -> dict[str, float]:
    """Load all batches with several processes, and tell what they hold at the start and at the end."""
    import torch

    from detdistill.core.image_options import ImageOptions
    from detdistill.data.loading import evaluation_loader
    from detdistill.data.opening import open_dataset

    dataset = open_dataset(file, check_images=False)
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    torch.set_num_threads(1)
    loader = evaluation_loader(dataset, ImageOptions(letterbox=32), batch_size=64, workers=WORKERS)
    own = os.getpid()
    first = last = 0.0
    with patch("detdistill.data.loading.read_image", lambda *_: pixels):
        for number, _ in enumerate(loader):
            if number == 8 * WORKERS:
                first = _shared_out(own)
            if number == len(loader) - 2 * WORKERS - 1:
                last = _shared_out(own)
    return {"start": first, "end": last}


def _memory(key: str) -> float:
    """MB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1000


def _shared_out(parent: int) -> float:
    """MB of the processes that load for a process, each page counted once."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    total = 0
    for process in children:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--objects", type=int, default=860_001)
    parser.add_argument("--corners", type=int, default=CORNERS, help="of each polygon; 0 writes none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="read with pycocotools too")
    parser.add_argument("--no-epoch", action="store_true", help="leave out the loading processes")
    parser.add_argument("--out", type=Path, help="JSON file of what was measured")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        print(json.dumps(epoch(options.file) if options.run == "epoch" else run(options.run, options.file)))
        return
    from detdistill.core.environment import machine

    with tempfile.TemporaryDirectory() as folder:
        file, cache = Path(folder) / "instances.json", Path(folder) / "cache"
        write(file, options.images, options.objects, options.corners)
        time.sleep(3)  # a file that was just written is not kept in the cache
        measure("ours", file, cache)
        readings = {"file": ("ours", None), "second start": ("ours", cache)}
        if options.peer:
            readings["pycocotools"] = ("peer", None)
        rounds = [
            {name: measure(what, file, place) for name, (what, place) in readings.items()}
            for _ in range(options.rounds)
        ]
        found: dict[str, object] = {
            "command": " ".join(["python", *sys.argv]),
            "machine": machine(),
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            "images": options.images,
            "objects": options.objects,
            "megabytes": file.stat().st_size / 1e6,
        }
        for name in readings:
            found[name] = {key: round(median(one[name][key] for one in rounds), 2) for key in rounds[0][name]}
        if not options.no_epoch:
            found["workers"] = measure("epoch", file, None)
    text = json.dumps(found, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
