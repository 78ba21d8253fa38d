"""See it work: a teacher, a small student alone, and the same student taught by Rank Mimicking and PFI.

python examples/demo.py [--seed 0] [--out runs/demo]

Draws a data set, trains the three detectors by `recipes/demo_*.yaml`, scores them on the test pictures and writes
`table.json`, `pictures.png` and `report.html`. Interrupted, the same command goes on. Baseline and student start from
the same weights and see the same pictures in the same order; nothing is chosen on the test pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torchvision.ops import nms

from detdistill.cli.text_table import print_table
from detdistill.cli.train_command import interruptible
from detdistill.core.annotations import DetectionDataset
from detdistill.core.boxes import pairwise_iou
from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically
from detdistill.core.image_options import ImageOptions
from detdistill.core.images import read_image
from detdistill.core.texts import points
from detdistill.data.loading import evaluation_loader
from detdistill.data.opening import open_dataset
from detdistill.data.scenes import write_scenes
from detdistill.detectors.base import Detector
from detdistill.detectors.storage import load_detector, read_description, store_thresholds
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.precision_recall import best_f1, precision_recall
from detdistill.evaluation.predict import predict
from detdistill.evaluation.results import Results
from detdistill.evaluation.voc_metrics import rank_detections
from detdistill.report.charts import Chart
from detdistill.report.drawing import draw_boxes
from detdistill.report.html import Code, Panels, Picture, Section, Table, Text, write_report
from detdistill.report.image_saving import jpeg_for_page
from detdistill.report.marks import Color, Mark
from detdistill.report.page_layout import PHONE, drawn_text_size, panel_width
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import distill, train

RECIPES = Path(__file__).parents[1] / "recipes"
RUNS = ("teacher", "baseline", "distilled")
TITLES = {"teacher": "teacher", "baseline": "student alone", "distilled": "student, RM + PFI"}
SIZE = 128
PICTURES = {"train": 3000, "val": 500, "test": 500}
FEW_PICTURES = {"train": 32, "val": 16, "test": 16}

COLUMNS = ("", "AP", "AP50", "parameters", "images/s")
BATCH = 16

SHOWN = 6
CELL, GAP, HEADING = 288, 12, 20
"""Pixels of a drawing's side, between drawings, and of the headings' text on the sheet."""
TAG = drawn_text_size(CELL, panel_width(PHONE))
TRUTH: Color = (255, 255, 255)
RIGHT: Color = (86, 180, 233)
WRONG: Color = (213, 94, 0)
MISSED: Color = (240, 228, 66)
MEANINGS = {RIGHT: "right class, IoU at least 0.5", WRONG: "wrong", MISSED: "missed (broken line)"}
PAIRS = (("ground truth", TITLES["teacher"]), (TITLES["baseline"], TITLES["distilled"]))
SAME_PLACE = 0.6
PAPER, INK = (250, 250, 250), (30, 30, 30)

Numbers = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A detector on the test pictures.

    Attributes:
        numbers: what `table.json` says of it.
        found: its detections from the threshold of each class on that was best (F1) on the validation pictures.
    """

    numbers: dict[str, float | None]
    found: Results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of pictures, weights and order")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--tiny", action="store_true", help="a few pictures and steps: the way, not the result")
    options = parser.parse_args()
    # A second thread waits at every layer for a core that is busy: up to four times slower. It loads images instead.
    torch.set_num_threads(1)
    try:
        with interruptible():
            demonstrate(options.out, options.seed, tiny=options.tiny)
    except DetdistillError as error:
        sys.exit(f"demo: {error}")


def demonstrate(out: Path, seed: int, *, tiny: bool) -> None:
    data = out / f"scenes_{seed}"
    if not data.exists():
        write_scenes(data, seed=seed, size=SIZE, **(FEW_PICTURES if tiny else PICTURES))
    recipes = {name: recipe_of(name, out, data, seed, tiny=tiny) for name in RUNS}
    for name, recipe in recipes.items():
        print(f"\n{TITLES[name]}: {recipe.schedule.epochs} epochs of {data}, in {out / name}", file=sys.stderr)
        if recipe.distill is None:
            train(recipe, out / name)
        else:
            distill(recipe, None, out / name)
    print("\nscores on the validation and test pictures", file=sys.stderr)
    validation, test = open_dataset(data, "val"), open_dataset(data, "test")
    outcomes = {name: outcome(out / name, recipes[name].images, validation, test) for name in RUNS}
    speeds = images_per_second({name: load_detector(out / name) for name in RUNS}, test, recipes["teacher"].images)
    table = {name: {**outcomes[name].numbers, "images_per_second": round(speeds[name], 1)} for name in RUNS}
    write_atomically(out / "table.json", json.dumps(table, indent=1) + "\n")
    drawn = compared(test, {name: outcome.found for name, outcome in outcomes.items()})
    write_atomically(out / "pictures.png", png(sheet_of(drawn)))
    write_page(out, table, drawn, recipes)
    print_table(COLUMNS, rows(table))
    print(f"\n{out / 'report.html'} has pictures and curves")


def recipe_of(name: str, out: Path, data: Path, seed: int, *, tiny: bool) -> Recipe:
    recipe = read_recipe(RECIPES / f"demo_{name}.yaml")
    recipe = replace(recipe, data=replace(recipe.data, path=str(data)), seed=seed)
    if tiny:
        logging = replace(recipe.logging, every=1)
        recipe = replace(recipe, schedule=replace(recipe.schedule, epochs=2), logging=logging)
    if recipe.distill is None:
        return recipe
    # The teacher of `tiny` has learned nothing yet.
    distill = replace(recipe.distill, teacher=str(out / "teacher"), accept_teacher=tiny)
    return replace(recipe, distill=distill)


def outcome(folder: Path, images: ImageOptions, validation: DetectionDataset, test: DetectionDataset) -> Outcome:
    """Scores a run on the test pictures, and keeps the thresholds that are best on the validation pictures."""
    detector = load_detector(folder)
    rankings = rank_detections(validation, predict(detector, validation, images))
    best = {name: best_f1(precision_recall(ranking)) for name, ranking in rankings.items()}
    thresholds = {name: point.threshold for name, point in best.items() if point is not None}
    store_thresholds(folder, thresholds)
    results = predict(detector, test, images)
    scores = coco_metrics(test, results)
    least = np.array([thresholds.get(name, np.inf) for name in test.classes])
    return Outcome(
        {
            "AP": scores.AP,
            "AP50": scores.AP50,
            "parameters": sum(parameter.numel() for parameter in detector.parameters()),
        },
        chosen(results, np.flatnonzero(results.scores >= least[results.labels])),
    )


def chosen(results: Results, index: NDArray[np.int64]) -> Results:
    return Results(results.image[index], results.xywh[index], results.scores[index], results.labels[index])


def images_per_second(
    detectors: Mapping[str, Detector], dataset: DetectionDataset, images: ImageOptions, *, rounds: int = 9
) -> dict[str, float]:
    """Network and post-processing of a batch in memory, in float32, by turns so that a busy machine hits all alike."""
    batch = next(iter(evaluation_loader(dataset, images, batch_size=BATCH)))
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    with torch.no_grad():
        for _ in range(rounds):
            for name, detector in detectors.items():
                start = time.perf_counter()
                output = detector(detector.input.normalization(batch.images, batch.targets.sizes))
                detector.detect(output, batch.targets.sizes)
                seconds[name].append(time.perf_counter() - start)
    return {name: len(batch.images) / median(measured) for name, measured in seconds.items()}


def compared(dataset: DetectionDataset, found: Mapping[str, Results]) -> list[list[Image.Image]]:
    """Draw the first test images with at least three objects: ground truth, then what each detector finds."""
    drawn = []
    for index in [index for index, record in enumerate(dataset.images) if len(record.labels) >= 3][:SHOWN]:
        record = dataset.images[index]
        truth = [
            mark(box, dataset.classes[label], TRUTH) for box, label in zip(record.boxes, record.labels, strict=True)
        ]
        image = read_image(record.path, (record.height, record.width))
        drawn.append(
            [
                draw_boxes(image, marks, scale=CELL / max(image.shape), font_size=TAG)
                for marks in (truth, *(judged(dataset, index, results) for results in found.values()))
            ]
        )
    return drawn


def sheet_of(drawn: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Put all drawings on one sheet, two in a row under their headings, so that a phone shows them large enough."""
    font = ImageFont.load_default(HEADING)
    rows = [(headings, images) for four in drawn for headings, images in zip(PAIRS, (four[:2], four[2:]), strict=True)]
    step = CELL + 2 * HEADING
    sheet = Image.new("RGB", (GAP + 2 * (CELL + GAP), len(rows) * step + (len(MEANINGS) + 1) * 2 * HEADING), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (headings, images) in enumerate(rows):
        for column, (heading, image) in enumerate(zip(headings, images, strict=True)):
            left, top = GAP + column * (CELL + GAP), row * step
            pen.text((left, top + HEADING // 2), heading, fill=INK, font=font)
            sheet.paste(image, (left, top + 2 * HEADING))
    for line, (color, meaning) in enumerate(MEANINGS.items()):
        y = len(rows) * step + HEADING + line * 2 * HEADING
        pen.rectangle((GAP, y, GAP + HEADING, y + HEADING), fill=color, outline=INK)
        pen.text((GAP + 2 * HEADING, y - 2), meaning, fill=INK, font=font)
    return sheet


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def judged(dataset: DetectionDataset, index: int, results: Results) -> list[Mark]:
    """What was found in a picture, right or wrong, and what was missed; the better scores choose their object first.

    Of several boxes on one another only the best is shown: what the detector would say if it had to say one digit.
    """
    record = dataset.images[index]
    own = chosen(results, np.flatnonzero(results.image == index))
    own = chosen(own, nms(torch.from_numpy(own.boxes), torch.from_numpy(own.scores), SAME_PLACE).numpy())
    overlaps = pairwise_iou(torch.from_numpy(own.boxes), torch.from_numpy(record.boxes)).numpy()
    missed = np.ones(len(record.labels), dtype=bool)
    marks = []
    for each in range(len(own)):
        fitting = np.where(missed & (record.labels == own.labels[each]), overlaps[each], 0.0)
        is_right = bool(fitting.max(initial=0) >= 0.5)
        if is_right:
            missed[fitting.argmax()] = False
        name = dataset.classes[own.labels[each]]
        marks.append(mark(own.boxes[each], name, RIGHT if is_right else WRONG))
    return marks + [mark(record.boxes[each], "", MISSED, dashed=True) for each in np.flatnonzero(missed)]


def mark(box: NDArray[np.float64], text: str, color: Color, *, dashed: bool = False) -> Mark:
    x1, y1, x2, y2 = (float(side) for side in box)
    return Mark((x1, y1, x2, y2), text, color, dashed)


def rows(table: Numbers) -> list[tuple[str, ...]]:
    return [
        (
            TITLES[name],
            points(values["AP"]),
            points(values["AP50"]),
            f"{(values['parameters'] or 0) / 1e6:.2f} M",
            f"{values['images_per_second']:.0f}",
        )
        for name, values in table.items()
    ]


def detection_loss(folder: Path) -> list[tuple[float, float]]:
    """Steps and the student's own loss, terms left out, averaged over neighbouring lines of the log."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [(line["step"], line["classification"] + line["box"]) for line in lines if "classification" in line]
    window = max(1, len(losses) // 20)
    return [
        (losses[last][0], float(np.mean([loss for _, loss in losses[max(0, last + 1 - window) : last + 1]])))
        for last in range(len(losses))
    ]


def write_page(
    out: Path, table: Numbers, drawn: Sequence[Sequence[Image.Image]], recipes: Mapping[str, Recipe]
) -> None:
    teacher, alone, taught = (points(table[name]["AP"]) for name in RUNS)
    weights = read_description(out / "distilled").provenance["weights"]
    found = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
    verbs = {"teacher": "train", "baseline": "train", "distilled": "distill"}
    commands = [f"detdistill {verbs[name]} --recipe {out / name / 'recipe.yaml'} --out {name}" for name in RUNS]
    scores = Table(
        COLUMNS,
        rows(table),
        "On test pictures of digits and backgrounds that no detector has seen. AP: COCO's average precision, 0 to 100; "
        f"AP50: at IoU .5 alone. images/s: network and post-processing, batches of {BATCH}, float32, one "
        "thread.",
    )
    seeds = Text(f"This is one run, of seed {recipes['baseline'].seed}; the README has the pairs of five seeds.")
    headings = [heading for pair in PAIRS for heading in pair]
    pictures = [
        Panels(
            f"Test image {number}",
            [
                Picture(jpeg_for_page(image), f"Test image {number}: {heading}.", heading, media="jpeg")
                for heading, image in zip(headings, images, strict=True)
            ],
        )
        for number, images in enumerate(drawn, start=1)
    ]
    selection = Text(
        f"These are the first {SHOWN} test images with at least three objects, whatever the detectors find in them. "
        "Blue boxes are right: the class is correct and the IoU is at least 0.5. Orange boxes are wrong. Yellow broken "
        "boxes are missed objects. A detection is drawn if its score reaches the threshold of the best F1 of its class "
        "on the validation images. Of several overlapping boxes only the best is drawn."
    )
    losses = Chart(
        "step",
        "Detection loss in training",
        {TITLES[name]: detection_loss(out / name) for name in RUNS},
        "Of class and box, without what is learned from the teacher; smoothed.",
    )
    fairness = Text(
        "Student alone and taught student start from the same weights and see the same pictures in the same order "
        f"for {recipes['baseline'].schedule.epochs} epochs. The final weights count; nothing was chosen on the test "
        "pictures. The weights of the two terms were found in the first steps, from how long their gradients are "
        f"beside the detection loss's: {found}."
    )
    write_report(
        out / "report.html",
        title="A small detector learns from a large one",
        summary=[
            f"The same small student reaches {alone} AP alone, and {taught} AP when a teacher of {teacher} AP "
            "shows it how to rank its boxes (Rank Mimicking, RM) and where its features matter (Prediction-guided "
            "Feature Imitation, PFI)."
        ],
        sections=[
            Section("What came out", [scores, seeds]),
            Section("What they find", [selection, *pictures]),
            Section("How they learned", [losses]),
            Section("How it was made", [fairness, Code("\n".join(commands))]),
        ],
    )


if __name__ == "__main__":
    main()
