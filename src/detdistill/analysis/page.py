"""The page of an analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from detdistill.analysis.differences import AGREED
from detdistill.analysis.error_types import KINDS, Errors
from detdistill.analysis.findings import Verdict, correlation, gap, number, numbers, percent, side_by_side, verdicts
from detdistill.analysis.galleries import image_gallery, object_gallery
from detdistill.analysis.groups import in_order
from detdistill.analysis.measure import Measured, Student
from detdistill.analysis.observation import MEASURES
from detdistill.analysis.source_section import source_section
from detdistill.core.errors import DetdistillError
from detdistill.core.json_files import write_json
from detdistill.core.texts import points
from detdistill.evaluation.coco_metrics import CocoMetrics
from detdistill.report.html import Bullets, Grid, Part, Section, Table, Text, write_report

PAGE, JSON = "analysis.html", "analysis.json"
SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def write_analysis(measured: Measured, folder: Path) -> list[str]:
    """Writes `analysis.html` and `analysis.json`.

    Args:
        measured: teacher and students on a data set.
        folder: made if need be.

    Returns:
        All findings, one sentence each, student by student.

    Raises:
        DetdistillError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetdistillError(f"{folder} cannot be created: {error.strerror}") from error
    write_json(folder / JSON, numbers(measured), indent=1)
    found = verdicts(measured)
    write_report(
        folder / PAGE,
        title="Why the student lags" if len(found) == 1 else "Why the students lag",
        summary=summary_of(found),
        sections=[
            *_findings(measured, found),
            _scores(measured),
            *(source_section(student) for student in measured.students),
            *(_ranks(measured, student) for student in measured.students if student.teachers_order is not None),
            *(_differences(measured, student) for student in measured.students if student.observation.levels),
            _errors(measured),
            _notes(measured),
        ],
    )
    return [sentence for verdict in found.values() for sentence in verdict.sentences]


def summary_of(found: Mapping[str, Verdict]) -> list[str]:
    """Return all findings on a single student, or the headlines of several."""
    if len(found) == 1:
        return [sentence for verdict in found.values() for sentence in verdict.sentences]
    return [" ".join(verdict.headline) for verdict in found.values() if verdict.headline]


def _findings(measured: Measured, found: Mapping[str, Verdict]) -> list[Section]:
    """Several students side by side, then the details of each; those of a single one stand in the summary."""
    if len(found) == 1:
        return []
    table = Table(
        *side_by_side(measured),
        "The gap is that between the first student and the teacher. Better students have higher values in the first "
        "four rows and lower values in the last four. The sections below explain each row.",
    )
    details = [Section(f"Findings: {name}", [Bullets(verdict.details)]) for name, verdict in found.items()]
    return [Section("Students side by side", [table]), *details]


def _scores(measured: Measured) -> Section:
    rows = [["teacher", *_texts(measured.teacher)]]
    for student in measured.students:
        rows.append([student.name, *_texts(student.scores)])
        exchanged = {
            f"{student.name}, in the teacher's order": student.teachers_order,
            f"{student.name}, teacher's order only within objects": student.teachers_order_within,
            f"{student.name}, in the order of the opinions": student.opinions_order,
            f"{student.name}, opinions' order only within objects": student.opinions_order_within,
            f"{student.name}'s order of the teacher's boxes": student.teachers_boxes,
        }
        rows += [[name, *_texts(scores)] for name, scores in exchanged.items() if scores is not None]
    names = [student.name for student in measured.students]
    columns = ["class", "teacher", *(column for name in names for column in (name, f"{name}: gap"))]
    by_class = []
    for name, scores in measured.teacher.per_class.items():
        cells = [name, points(scores.AP)]
        for student in measured.students:
            own = student.scores.per_class[name].AP
            difference = None if own is None or scores.AP is None else own - scores.AP
            cells += [points(own), gap(difference)]
        by_class.append(cells)
    return Section(
        "Scores, and what the order of boxes decides",
        [
            Table(
                ["", *SCORES],
                rows,
                "COCO AP, from 0 to 100. In the teacher's order: the student's boxes with the teacher's scores. Only "
                "within objects: the candidates of each object are ranked in the teacher's order, with the student's "
                "own scores. Rank Mimicking alone teaches this order. Opinions: scores of the student's boxes by their "
                "overlap with the teacher's boxes. Order of the teacher's boxes: the teacher's boxes with the "
                "student's scores. These rows use only the classes that both have, and those of the teacher's order "
                "and boxes only the levels that both have.",
            ),
            Table(columns, by_class, "AP by class, and how far the student is behind."),
        ],
    )


def _ranks(measured: Measured, student: Student) -> Section:
    table = student.observation.ranks.table(MEASURES)
    rows = [[name, *_rank_texts(values)] for name, values in in_order(table)]
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
            "The candidates of an object are the predictions that training assigns to it, as in Rank Mimicking. Same "
            "first: both give the same candidate their best score. tau: Kendall's tau-b, and rho: Spearman's rho, of "
            "the two lists of scores. 1 is the same order, -1 the reverse. RM loss: the loss of Rank Mimicking. IoU: "
            "overlap of the object with the box that each one ranks first. Student at teacher's: IoU of the student's "
            "box at the candidate that the teacher ranks first. Crowded: IoU with another object of at least 0.3.",
        )
    ]
    cases = student.observation.objects.cases
    if cases:
        parts += [
            Text(
                "These are the objects whose ranking differs most. White broken line: the object. Blue: the box that "
                "the teacher ranks first. Orange: the box that the student ranks first."
            ),
            Text(
                "The bars show the scores of the candidates, sorted by the teacher's scores: blue for the teacher, "
                "orange for the student. If orange rises where blue falls, the student ranks in the reverse order."
            ),
            Grid(object_gallery(measured.dataset, cases)),
        ]
    else:
        parts.append(Text("There is no object of which the two put different candidates first."))
    return Section(f"Observation 1, the ranks: {student.name}", parts)


def _differences(measured: Measured, student: Student) -> Section:
    rows = [
        [
            f"stride {stride}",
            *(number(summary[key]) for key in ("feature_difference", "prediction_difference")),
            correlation(summary["correlation"]),
            *(percent(summary[key]) for key in ("cells_agreed", "feature_difference_agreed")),
        ]
        for stride, summary in ((stride, level.summary()) for stride, level in student.observation.levels.items())
    ]
    parts: list[Part] = [
        Table(
            ["level", "F", "P", "correlation", "cells that agree", "share of F there"],
            rows,
            "F: the part of the teacher's features that no linear map of the student's features gives, in units of "
            "their variance. The map is fitted by least squares on the first batches. P: mean squared difference of "
            f"class probabilities. Cells agree where no probability differs by more than {AGREED:g}. Imitating "
            "features on the whole map also imitates these cells; Prediction-guided Feature Imitation does not.",
        )
    ]
    cases = student.observation.images.cases
    if cases:
        galleries, (features, predictions) = image_gallery(measured.dataset, cases)
        parts += [
            Text(
                "These are the images whose predictions differ most, with F and P of each level. Dark blue is 0. "
                f"Yellow is {features:.3g} or more in maps of F, and {predictions:.3g} or more in maps of P. White "
                "boxes: the objects. Where F is bright and P is dark, features differ but predictions do not."
            ),
            *galleries,
        ]
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
            "Errors by kind, after TIDE (Bolya et al., ECCV 2020). The first column of each detector counts "
            "detections, or objects for missed. The second is the AP50 that correcting this kind alone would add. "
            "classification: on an object of another class. localization: IoU of 0.1 to 0.5 with an object of its "
            "class. both: the same with another class. duplicate: the object is found already. background: IoU below "
            "0.1 with all objects. missed: objects that are neither found nor nearly found.",
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
        ("tau", correlation),
        ("rho", correlation),
        ("divergence", number),
        ("teacher_best_iou", number),
        ("own_best_iou", number),
        ("own_iou_at_teachers_best", number),
    )
    return [f"{values['objects']:.0f}", *(form(values[name]) for name, form in shown)]
