"""What was measured as numbers, and what the numbers say in words."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean
from typing import Any

from detdistill.analysis.measure import Measured, Student
from detdistill.analysis.observation import ALL, MEASURES
from detdistill.core.texts import points
from detdistill.evaluation.gap import share_closed

WORTH_NAMING = 0.01
"""AP, 0 to 1, that a student must gain by something for us to say that it lacks it."""


def numbers(measured: Measured) -> dict[str, Any]:
    """Everything on the page as machines read it: 0 to 1, None where undefined."""
    return {
        "data": measured.dataset.source,
        "images": len(measured.dataset.images),
        "teacher": {"scores": asdict(measured.teacher), "errors": asdict(measured.teacher_errors)},
        "students": {
            student.name: {
                "scores": asdict(student.scores),
                "teachers_order": asdict(student.teachers_order),
                "teachers_order_within": asdict(student.teachers_order_within),
                "teachers_boxes": asdict(student.teachers_boxes),
                "errors": asdict(student.errors),
                "ranks": [
                    {"kind": kind, "group": name, **values}
                    for (kind, name), values in student.observation.ranks.table(MEASURES).items()
                ],
                "levels": {str(stride): level.summary() for stride, level in student.observation.levels.items()},
                "notes": list(student.notes),
            }
            for student in measured.students
        },
    }


def verdict(measured: Measured, student: Student) -> list[str]:
    """What the numbers say of a student, a sentence each; each has the number that it rests on."""
    said = []
    teacher, own, order = measured.teacher.AP, student.scores.AP, student.teachers_order.AP
    within, boxes = student.teachers_order_within.AP, student.teachers_boxes.AP
    if teacher is not None and own is not None:
        said.append(f"{student.name}: AP {points(own)}, its teacher {points(teacher)}.")
    if own is not None and order is not None and within is not None and boxes is not None:
        said.append(
            f"Ranked by its teacher's scores, its own boxes would reach {points(order)}, and {points(within)} if only "
            "the candidates of each object changed places, which is what Rank Mimicking teaches; its teacher's boxes, "
            f"ranked by its own scores, {points(boxes)}: {lack(own, order=order, within=within, boxes=boxes)}."
        )
    ranks = student.observation.ranks
    top, tau = (ranks.mean(ALL, measure) for measure in ("top1", "tau"))
    if top is not None:
        said.append(
            f"Of {100 * top:.0f} % of the objects both put the same candidate first"
            + ("." if tau is None else f" (mean tau {tau:.2f}).")
        )
    first, others = (ranks.mean(ALL, measure) for measure in ("own_best_iou", "own_iou_at_teachers_best"))
    if first is not None and others is not None:
        said.append(
            f"Its box at the candidate that it ranks first overlaps the object by {first:.3f}, at the one that its "
            f"teacher ranks first by {others:.3f}."
        )
    levels = student.observation.levels.values()
    total, agreed = (sum(getattr(level, name) for level in levels) for name in ("features", "features_agreed"))
    if total > 0:
        said.append(
            f"{100 * agreed / total:.0f} % of the difference of features lies where the predictions agree already."
        )
    costs = {kind: cost for kind, cost in student.errors.costs.items() if cost is not None}
    if costs:
        kind = max(costs, key=lambda each: costs[each])
        said.append(f"The costliest errors are of the kind {kind}: {points(costs[kind])} AP50.")
    return said


def lack(own: float, *, order: float, within: float, boxes: float) -> str:
    """What a student lacks most, in words.

    Args:
        own: its AP, 0 to 1; the others are AP, too.
        order: of its boxes in the teacher's order.
        within: of its boxes with the candidates of each object alone in the teacher's order.
        boxes: of the teacher's boxes in its order.
    """
    gains = {
        "the boxes themselves": boxes - own,
        "the order of the candidates of each object": within - own,
        "the order of its boxes across objects and background": order - max(within, own),
    }
    most = max(gains, key=lambda part: gains[part])
    return f"what it lacks most is {most}" if gains[most] >= WORTH_NAMING else "it lacks little of each alone"


def side_by_side(measured: Measured) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: what each student has left of observations and errors; the first one is the start."""
    students = measured.students
    start, teacher = students[0].scores.AP, measured.teacher.AP

    def share(student: Student) -> str:
        own = student.scores.AP
        if own is None or start is None or teacher is None:
            return "–"
        return percent(share_closed(own, start=start, teacher=teacher))

    def ranks(student: Student, measure: str) -> float | None:
        return student.observation.ranks.mean(ALL, measure)

    def levels(student: Student, key: str) -> float | None:
        found = [level.summary()[key] for level in student.observation.levels.values()]
        defined = [value for value in found if value is not None]
        return fmean(defined) if defined else None

    def costs(student: Student) -> float | None:
        defined = [cost for cost in student.errors.costs.values() if cost is not None]
        return sum(defined) if defined else None

    rows = [
        ["AP", *(points(student.scores.AP) for student in students)],
        ["of the way to the teacher", *(share(student) for student in students)],
        ["same candidate first", *(percent(ranks(student, "top1")) for student in students)],
        ["tau", *(number(ranks(student, "tau")) for student in students)],
        ["RM loss", *(number(ranks(student, "divergence")) for student in students)],
        ["F, mean over levels", *(number(levels(student, "feature_difference")) for student in students)],
        ["P, mean over levels", *(number(levels(student, "prediction_difference")) for student in students)],
        ["AP50 lost by all kinds of errors", *(points(costs(student)) for student in students)],
    ]
    return ["", *(student.name for student in students)], rows


def percent(value: float | None) -> str:
    """A share of 0 to 1 in percent."""
    return "–" if value is None else f"{100 * value:.0f} %"


def number(value: float | None) -> str:
    """Two digits that count."""
    return "–" if value is None else f"{value:.2g}" if abs(value) < 0.01 else f"{value:.2f}"
