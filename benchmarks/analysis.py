"""What `detdistill analyze` costs beside the forward passes that it cannot do without.

    OMP_NUM_THREADS=1 python benchmarks/analysis.py [--images 200] [--side 320]

A teacher and a student of ResNet-18, random weights, on drawn pictures of that size, in batches of 8, channels last.
Measured is processor time in one process, drawing the page apart: all of `measure`, loading, post-processing, scores
and error kinds included, over the two detectors' forward passes on the same batches.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from detdistill.analysis.measure import measure
from detdistill.core.image_options import ImageOptions
from detdistill.data.loading import evaluation_loader
from detdistill.data.opening import open_dataset
from detdistill.data.scenes import write_scenes
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.running import InferenceOptions
from detdistill.teachers.detector_teacher import DetectorTeacher

BATCH = 8
CONFIDENT = -2.0
"""Bias of class logits: as many candidates pass the threshold as of a trained detector, or more."""
ALLOWED = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--heads", nargs="*", default=("gfl", "retinanet"))
    options = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder) / "scenes", seed=0, size=options.side, train=1, val=options.images, test=1)
        dataset = open_dataset(Path(folder) / "scenes", "val")
        images = ImageOptions(short_side=options.side, long_side=options.side)
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.images} images, processor time")
        for head in options.heads:
            teacher, student = (detector(head, dataset.classes, seed) for seed in (0, 1))
            batches = list(evaluation_loader(dataset, images, batch_size=BATCH))
            for each in (teacher, student):  # warms up
                each(each.input.normalization(batches[0].images, batches[0].targets.sizes))
            start = time.process_time()
            with torch.no_grad():
                for batch in batches:
                    for each in (teacher, student):
                        pixels = each.input.normalization(batch.images, batch.targets.sizes)
                        each(pixels.contiguous(memory_format=torch.channels_last))
            forward = time.process_time() - start
            start = time.process_time()
            measure(
                DetectorTeacher(teacher),
                {"student": student},
                dataset,
                images,
                InferenceOptions(BATCH, channels_last=True),
            )
            whole = time.process_time() - start
            worst = max(worst, whole / forward)
            print(f"{head}: two forward passes {forward:.1f} s, analysis {whole:.1f} s: ratio {whole / forward:.2f}")
    print(f"worst ratio {worst:.2f} (allowed: {ALLOWED:g})")


def detector(head: str, classes: tuple[str, ...], seed: int) -> DenseDetector:
    torch.manual_seed(seed)
    architecture = replace(Architecture(backbone="resnet18"), kind=head)  # type: ignore[arg-type]
    found = DenseDetector(architecture, classes).eval()
    with torch.no_grad():
        for name, parameter in found.head.named_parameters():
            if parameter.ndim == 1 and "class" in name and len(parameter) % len(classes) == 0:
                parameter.fill_(CONFIDENT)
    return found.to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
