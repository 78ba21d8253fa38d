"""The page of an analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from detdistill.analysis.differences import AGREED
from detdistill.analysis.error_types import KINDS, Errors
from detdistill.analysis.findings import number, numbers, percent, side_by_side, verdict
from detdistill.analysis.galleries import image_gallery, object_gallery
from detdistill.analysis.measure import Measured, Student
from detdistill.analysis.observation import MEASURES
from detdistill.core.errors import DetdistillError
from detdistill.core.json_files import write_json
from detdistill.core.texts import points
from detdistill.evaluation.coco_metrics import CocoMetrics
from detdistill.report.html import Part, Picture, Section, Table, Text, write_report

PAGE, JSON = "analysis.html", "analysis.json"
SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def write_analysis(measured: Measured, folder: Path) -> list[str]:
    """Writes `analysis.html` and `analysis.json`.

    Args:
        measured: teacher and students on a data set.
        folder: made if need be.

    Returns:
        The verdict, a sentence each.

    Raises:
        DetdistillError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetdistillError(f"{folder} cannot be created: {error.strerror}") from error
    write_json(folder / JSON, numbers(measured), indent=1)
    said = {student.name: verdict(measured, student) for student in measured.students}
    write_report(
        folder / PAGE,
        title="Why the student lags",
        summary=said[measured.students[0].name],
        sections=[
            *_others(measured, said),
            _scores(measured),
            *(_ranks(measured, student) for student in measured.students),
            *(_differences(measured, student) for student in measured.students),
            _errors(measured),
            _notes(measured),
        ],
    )
    return [sentence for sentences in said.values() for sentence in sentences]


def _others(measured: Measured, said: Mapping[str, Sequence[str]]) -> list[Section]:
    """What is said of all students but the first, which is the page's summary, and what each of them closed."""
    if len(said) == 1:
        return []
    parts: list[Part] = [Text(" ".join(sentences)) for sentences in list(said.values())[1:]]
    parts.append(
        Table(
            *side_by_side(measured),
            "What each student has closed of the first one's distance to the teacher. A better student has the same "
            "candidate first more often, a higher tau, and less of all that follows; the sections below say what each "
            "of them is.",
        )
    )
    return [Section("The students side by side", parts)]


def _scores(measured: Measured) -> Section:
    rows = [["teacher", *_texts(measured.teacher)]]
    for student in measured.students:
        rows.append([student.name, *_texts(student.scores)])
        rows.append([f"{student.name}, in the teacher's order", *_texts(student.teachers_order)])
        rows.append([f"{student.name}, in it only within objects", *_texts(student.teachers_order_within)])
        rows.append([f"{student.name}'s order of the teacher's boxes", *_texts(student.teachers_boxes)])
    names = [student.name for student in measured.students]
    columns = ["class", "teacher", *(column for name in names for column in (name, f"{name}: gap"))]
    by_class = []
    for name, scores in measured.teacher.per_class.items():
        cells = [name, points(scores.AP)]
        for student in measured.students:
            own = student.scores.per_class[name].AP
            gap = None if own is None or scores.AP is None else own - scores.AP
            cells += [points(own), "–" if gap is None else f"{100 * gap:+.1f}"]
        by_class.append(cells)
    return Section(
        "Scores, and what the order of boxes decides",
        [
            Table(
                ["", *SCORES],
                rows,
                "COCO's AP, 0 to 100. In the teacher's order: the student's boxes with the teacher's scores, "
                "candidate by candidate: what the student would reach if it ranked as its teacher does. Within "
                "objects: only the candidates of each object change places, with the student's own scores; this is "
                "what Rank Mimicking alone could give. The last line is the reverse of the first: the teacher's boxes "
                "with the student's scores. Only levels and classes that both have take part in these three.",
            ),
            Table(columns, by_class, "AP by class, and how far the student is behind."),
        ],
    )


def _ranks(measured: Measured, student: Student) -> Section:
    table = student.observation.ranks.table(MEASURES)
    rows = [
        [name if kind != "class" else f"class {name}", *_rank_texts(values)]
        for (kind, name), values in sorted(
            table.items(), key=lambda item: ["all", "size", "crowding", "class"].index(item[0][0])
        )
    ]
    parts: list[Part] = [
        Table(
            [
                "",
                "objects",
                "candidates",
                "same first",
                "tau",
                "rho",
                "RM loss",
                "IoU teacher",
                "IoU student",
                "student at teacher's",
            ],
            rows,
            "The candidates of an object are the student's positives, as in Rank Mimicking. Same first: both give the"
            " same candidate their best score. tau: Kendall's tau-b, rho: Spearman's, of the two lists of scores; 1 "
            "is the same order, -1 the reverse. IoU: of the box that each one ranks first with the object; the last "
            "column is the student's own box at the candidate that the teacher ranks first. Crowded: IoU with another"
            " object of at least .3.",
        )
    ]
    cases = student.observation.objects.cases
    if cases:
        parts.append(
            Picture(
                object_gallery(measured.dataset, cases),
                "Objects with the box that teacher and student rank first, and their scores of the candidates as bars.",
                "The objects on which the order differs most. Broken white: the object. Blue: the box that the "
                "teacher ranks first, orange: the student's. Below, a pair of bars for each candidate, in the "
                "teacher's order: blue the teacher's score, orange the student's. If orange rises where blue falls, "
                "the student ranks the other way.",
            )
        )
    else:
        parts.append(Text("There is no object of which the two put different candidates first."))
    return Section(f"Observation 1, the ranks: {student.name}", parts)


def _differences(measured: Measured, student: Student) -> Section:
    rows = [
        [
            f"stride {stride}",
            *(number(summary[key]) for key in ("feature_difference", "prediction_difference", "correlation")),
            *(percent(summary[key]) for key in ("cells_agreed", "feature_difference_agreed")),
        ]
        for stride, summary in ((stride, level.summary()) for stride, level in student.observation.levels.items())
    ]
    parts: list[Part] = [
        Table(
            ["level", "F", "P", "correlation", "cells that agree", "share of F there"],
            rows,
            "F: the part of the teacher's features that no linear map of the student's gives, in units of their "
            "variance (the map is found by least squares on the first batches). P: mean squared difference of class "
            f"probabilities. Cells agree where no probability differs by more than {AGREED:g}. What of F lies there, "
            "feature imitation on the whole map spends on cells that need nothing; Prediction-guided Feature "
            "Imitation does not.",
        )
    ]
    cases = student.observation.images.cases
    if cases:
        parts.append(
            Picture(
                image_gallery(measured.dataset, cases),
                "Images with their maps of feature difference and prediction difference, level by level.",
                "The images whose predictions differ most. Each row: the image with its objects, then F and P of each"
                " level. All F share one scale, all P another, dark is 0. Where F is bright and P dark, features "
                "differ and predictions do not.",
            )
        )
    return Section(f"Observation 2, features and predictions: {student.name}", parts)


def _errors(measured: Measured) -> Section:
    everyone = [("teacher", measured.teacher_errors), *((each.name, each.errors) for each in measured.students)]
    rows = [
        [kind, *(text for _, errors in everyone for text in (str(errors.counts[kind]), points(errors.costs[kind])))]
        for kind in KINDS
    ]
    columns = ["kind", *(column for name, _ in everyone for column in (name, "AP50 lost"))]
    parts: list[Part] = [
        Table(
            columns,
            rows,
            "Errors in the manner of TIDE (Bolya et al., ECCV 2020). Each first column counts detections, of "
            "missed objects; the second is the AP50 that mending this kind alone would gain. classification: on "
            "an object of another class; localization: IoU of .1 to .5 with an object of its class; both: the "
            "same with another class; duplicate: the object is found already; background: on nothing; missed: "
            "neither found nor nearly.",
        )
    ]
    for student in measured.students:
        parts += _errors_by_group(student.name, student.errors, measured.teacher_errors)
    return Section("Where the AP goes", parts)


def _errors_by_group(name: str, own: Errors, teacher: Errors) -> list[Part]:
    by_class = [
        [label, *(f"{points(costs[kind])} ({points(teacher.costs_by_class[label][kind])})" for kind in KINDS)]
        for label, costs in own.costs_by_class.items()
    ]
    by_size = [
        [size, *(f"{counts[kind]} ({teacher.counts_by_size[size][kind]})" for kind in KINDS)]
        for size, counts in own.counts_by_size.items()
    ]
    return [
        Table(["class", *KINDS], by_class, f"AP50 that {name} loses by class, in brackets what its teacher loses."),
        Table(
            ["size", *KINDS],
            by_size,
            f"Errors of {name} by the size of the object, on background of the detection; in brackets its teacher's. "
            "Small is below 32 x 32 pixels of the image file, large from 96 x 96 on.",
        ),
    ]


def _notes(measured: Measured) -> Section:
    parts: list[Part] = [
        Text(f"{len(measured.dataset.images)} images of {measured.dataset.source}; nothing was trained.")
    ]
    parts += [Text(f"{student.name}: {'; '.join(student.notes)}.") for student in measured.students]
    return Section("How they were compared", parts)


def _texts(scores: CocoMetrics) -> list[str]:
    return [points(getattr(scores, name)) for name in SCORES]


def _rank_texts(values: Mapping[str, float | None]) -> list[str]:
    shown: Sequence[tuple[str, Callable[[float | None], str]]] = (
        ("candidates", lambda value: "–" if value is None else f"{value:.1f}"),
        ("top1", percent),
        ("tau", number),
        ("rho", number),
        ("divergence", number),
        ("teacher_best_iou", number),
        ("own_best_iou", number),
        ("own_iou_at_teachers_best", number),
    )
    return [f"{values['objects']:.0f}", *(form(values[name]) for name, form in shown)]
