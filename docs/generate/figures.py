"""The figures of `docs/explanation.md`, from the runs of `docs/tutorial.md`: python -m docs.generate.figures RUNS DATA.

RUNS has the folders `teacher`, `baseline` and `student`. Everything is measured on the first test pictures by the
losses that training uses; what the page says in numbers is written to `benchmarks/explanation.json`. Nothing is picked
by eye: the object is the one whose gain is the median, the picture the first one with three objects.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from detdistill.analysis.differences import LinearMap, fits_of, prediction_maps
from detdistill.analysis.galleries import SCALE
from detdistill.analysis.pairing import Candidates, Ranked, compare
from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.image_options import ImageOptions
from detdistill.core.images import read_image
from detdistill.data.loading import Batch, evaluation_loader
from detdistill.data.opening import open_dataset
from detdistill.detectors.storage import load_detector, read_description
from detdistill.distill.class_map import ClassMap
from detdistill.losses import rank_mimicking
from detdistill.report.drawing import draw_boxes
from detdistill.report.marks import Box, Mark
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.teacher import TeacherBatch

DOCS = Path(__file__).parents[1]
STUDENTS = {"baseline": "student alone", "student": "student, RM + PFI"}
PICTURES = 200
LEAST, MOST = 6, 12
"""Candidates of the object that is shown."""
WIDTH, LEFT, GAP, TOP, BAR, ROOM = 860, 20, 40, 46, 110, 46
SIDE, MARGIN, HEADING = 190, 12, 24
INK, PAPER, TRUTH = (29, 35, 41), (255, 255, 255), (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Seen:
    """The first test pictures, as a student and the teacher see them.

    Attributes:
        batch: the pictures.
        ranked: what both made of them.
        maps: from the student's features to the teacher's, in the place of the adapters, which no run folder has.
    """

    batch: Batch
    ranked: Ranked
    maps: list[LinearMap]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    write(options.runs, options.data, DOCS / "figures", DOCS.parent / "benchmarks" / "explanation.json")


def write(runs: Path, data: Path, figures: Path, record: Path) -> None:
    """Writes both figures and the record."""
    dataset = open_dataset(data, "test")
    few = replace(dataset, images=dataset.images[:PICTURES])
    seen = {name: look(runs, name, few) for name in STUDENTS}
    lists = {name: each.ranked.candidates for name, each in seen.items()}
    losses = {name: rank_losses(found) for name, found in lists.items()}
    shown = median_object(lists["baseline"], losses)
    figures.mkdir(exist_ok=True)
    (figures / "rank_mimicking.svg").write_text(rank_figure(lists, losses, shown), encoding="utf-8")
    prediction_figure(few, seen).save(figures / "prediction_guided.png")
    numbers = {
        "pictures": len(few.images),
        "objects": len(losses["baseline"]),
        "rank_mimicking": {name: float(np.mean(list(own.values()))) for name, own in losses.items()},
        "same_first": {name: same_first(found) for name, found in lists.items()},
        "cells": {name: cells(each) for name, each in seen.items()},
        "command": "python -m docs.generate.figures RUNS DATA, after docs/tutorial.md",
    }
    record.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def look(runs: Path, name: str, dataset: DetectionDataset) -> Seen:
    teacher, student = load_detector(runs / "teacher"), load_detector(runs / name)
    size = read_description(runs / name).input.size
    assert size is not None, f"{runs / name} does not tell its image size"
    images = ImageOptions(**vars(size))
    batch = next(iter(evaluation_loader(dataset, images, batch_size=len(dataset.images))))
    with torch.no_grad():
        own = student(student.input.normalization(batch.images, batch.targets.sizes))
        guidance = DetectorTeacher(teacher).guide(TeacherBatch(batch.images, batch.targets.sizes, teacher.offers))
        classes = ClassMap(student.classes, teacher.classes, {})
        ranked = compare(student, teacher.offers, classes, own, guidance, batch.targets).dense
        assert ranked is not None, f"teacher and {name} have no cells in common"
        aligned = ranked.view
        fits = fits_of(aligned.student.features.maps, aligned.teacher.features.maps)
        valid = aligned.student.predictions.grid.valid_cells(batch.targets.sizes)
        for fit, features, goal, cells in zip(
            fits, aligned.student.features.maps, aligned.teacher.features.maps, valid, strict=True
        ):
            fit.add(features, goal, cells)
    return Seen(batch, ranked, [fit.solve() for fit in fits])


def rank_losses(found: Candidates) -> dict[int, float]:
    """Rank Mimicking's loss of each object that has candidates."""
    losses = {}
    for number in sorted(set(found.objects.tolist())):
        chosen = found.objects == number
        own, other = found.own[chosen], found.other[chosen]
        losses[number] = float(rank_mimicking(own, other, torch.zeros(len(own), dtype=torch.int64)))
    return losses


def same_first(found: Candidates) -> float:
    """Share of the objects whose best candidate is the same for both."""
    same = [
        bool(found.own[chosen].argmax() == found.other[chosen].argmax())
        for number in sorted(set(found.objects.tolist()))
        for chosen in [found.objects == number]
    ]
    return float(np.mean(same))


def median_object(found: Candidates, losses: Mapping[str, Mapping[int, float]]) -> int:
    """The object whose gain is the median of those with a number of candidates that can be shown."""
    counts = found.objects.bincount().tolist()
    fitting = [number for number in losses["baseline"] if LEAST <= counts[number] <= MOST] or list(losses["baseline"])
    return sorted(fitting, key=lambda number: losses["baseline"][number] - losses["student"][number])[len(fitting) // 2]


def cells(seen: Seen) -> dict[str, float]:
    """Of the finest level: how F and P go together, and the share of F where P is below its mean."""
    features, predictions = (torch.cat([level.flatten() for level in maps[:1]]) for maps in difference_maps(seen))
    low = predictions < predictions.mean()
    return {
        "correlation": float(torch.corrcoef(torch.stack((features, predictions)))[0, 1]),
        "cells_below_mean_p": float(low.float().mean()),
        "f_below_mean_p": float(features[low].sum() / features.sum()),
        "mean_f": float(features.mean()),
        "mean_p": float(predictions.mean()),
        "mean_pf": float((features * predictions).mean()),
    }


def difference_maps(seen: Seen) -> tuple[list[Tensor], list[Tensor]]:
    """F and P of each level."""
    aligned = seen.ranked.view
    features = [
        one.difference(own, other)
        for one, own, other in zip(seen.maps, aligned.student.features.maps, aligned.teacher.features.maps, strict=True)
    ]
    return features, [guide for guide, _ in prediction_maps(aligned.student, aligned.teacher)]


def rank_figure(lists: Mapping[str, Candidates], losses: Mapping[str, Mapping[int, float]], shown: int) -> str:
    """Scores and their softmax: the teacher's, then each student's beside the teacher's as a line."""
    chosen = {name: found.objects == shown for name, found in lists.items()}
    first = lists["baseline"]
    order = first.other[chosen["baseline"]].argsort(descending=True)
    teacher = first.other[chosen["baseline"]][order]
    columns = [("teacher", "teacher", "what the student is to learn", teacher)]
    for kind, (name, title) in zip(("alone", "taught"), STUDENTS.items(), strict=True):
        own = lists[name].own[chosen[name]][order]
        columns.append((kind, title, f"RM loss {losses[name][shown]:.4f}; lines: the teacher", own))
    highest = [
        max(float(scores.sigmoid().max()) for *_, scores in columns),
        max(float(scores.softmax(0).max()) for *_, scores in columns),
    ]
    wide = (WIDTH - 2 * LEFT - 2 * GAP) / 3
    panels = [
        {
            "kind": kind,
            "title": title,
            "note": note,
            "left": round(LEFT + number * (wide + GAP), 1),
            "width": round(wide, 1),
            "rows": [
                _row(number, wide, row, scores, None if kind == "teacher" else teacher, highest[row])
                for row in range(2)
            ],
        }
        for number, (kind, title, note, scores) in enumerate(columns)
    ]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("rank_mimicking.svg.jinja")
    return template.render(panels=panels, width=WIDTH, height=TOP + 2 * (BAR + ROOM)) + "\n"


def _row(number: int, wide: float, row: int, scores: Tensor, teacher: Tensor | None, highest: float) -> dict[str, Any]:
    floor = TOP + BAR + row * (BAR + ROOM)
    values, goals = (
        None if each is None else (each.softmax(0) if row else each.sigmoid()).tolist() for each in (scores, teacher)
    )
    assert values is not None
    step = wide / len(values)
    return {
        "floor": floor,
        "label": "softmax of the logits: the rank distribution" if row else f"class score, highest bar {highest:.2f}",
        "bars": [
            {
                "x": round(LEFT + number * (wide + GAP) + place * step + 0.12 * step, 1),
                "y": round(floor - BAR * value / highest, 1),
                "width": round(0.76 * step, 1),
                "height": round(BAR * value / highest, 1),
                "outline": None if goals is None else round(floor - BAR * goals[place] / highest, 1),
            }
            for place, value in enumerate(values)
        ],
    }


def prediction_figure(dataset: DetectionDataset, seen: Mapping[str, Seen]) -> Image.Image:
    """A row for each student: the picture, F, P and P·F of the finest level; one scale for each column."""
    index = next((number for number, record in enumerate(dataset.images) if len(record.labels) >= 3), 0)
    maps = {}
    for name, each in seen.items():
        features, predictions = (level[0][index].numpy() for level in difference_maps(each))
        maps[name] = (features, predictions, features * predictions)
    titles = ("picture", "F: features differ", "P: predictions differ", "P · F: what PFI sees")
    font = ImageFont.load_default(15)
    step = SIDE + MARGIN
    sheet = Image.new("RGB", (MARGIN + 4 * step, MARGIN + 2 * (SIDE + HEADING + MARGIN) + HEADING), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.text((MARGIN + column * step, MARGIN // 2), title, fill=INK, font=font)
    for row, (name, own) in enumerate(maps.items()):
        top = MARGIN + HEADING + row * (SIDE + HEADING + MARGIN)
        sheet.paste(_picture(dataset.images[index]), (MARGIN, top))
        for column, values in enumerate(own):
            limit = max(float(np.quantile(other[column], 0.99)) for other in maps.values())
            sheet.paste(_heat(values, limit), (MARGIN + (column + 1) * step, top))
        pen.text((MARGIN, top + SIDE + 2), f"teacher and {STUDENTS[name]}", fill=INK, font=font)
    return sheet


def _picture(record: ImageRecord) -> Image.Image:
    pixels = read_image(record.path, (record.height, record.width))
    marks = [Mark(cast(Box, tuple(box.tolist())), "", TRUTH) for box in record.boxes]
    return draw_boxes(pixels, marks, scale=SIDE / max(pixels.shape[:2]))


def _heat(values: NDArray[np.float32], limit: float) -> Image.Image:
    shares, places = np.clip(values / max(limit, 1e-12), 0, 1), np.linspace(0, 1, len(SCALE))
    colors = np.stack([np.interp(shares, places, SCALE[:, channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(colors.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
