"""What was measured as numbers, and what the numbers say in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from detdistill.analysis.differences import AGREED
from detdistill.analysis.error_types import Kind
from detdistill.analysis.groups import ALL
from detdistill.analysis.measure import Measured, Student
from detdistill.analysis.observation import MEASURES
from detdistill.analysis.source_findings import fit_sentence, source_numbers, source_sentences
from detdistill.core.texts import points
from detdistill.evaluation.coco_metrics import CocoMetrics
from detdistill.evaluation.gap import share_closed

WORTH_NAMING = 0.01
"""AP, 0 to 1, that a student must gain by something before it is named as a weakness."""

Weakness = Literal["boxes", "order within objects", "order of objects"]
WEAKNESSES: dict[Weakness, str] = {
    "boxes": "Its largest weakness is the position of its boxes",
    "order within objects": "Its largest weakness is the ranking of the candidate boxes within each object",
    "order of objects": "Its largest weakness is the ranking of its boxes across objects and background",
}
ERRORS: dict[Kind, str] = {
    "classification": "boxes with the wrong class",
    "localization": "boxes that lie badly on their object",
    "both": "boxes with the wrong class that also lie badly on the object",
    "duplicate": "duplicate boxes of objects that are already found",
    "background": "boxes on background",
    "missed": "missed objects",
}


def numbers(measured: Measured) -> dict[str, Any]:
    """Everything on the page as machines read it: 0 to 1, None where undefined."""
    return {
        "data": measured.dataset.source,
        "images": len(measured.dataset.images),
        "teacher": {"scores": measured.teacher.to_values(), "errors": asdict(measured.teacher_errors)},
        "students": {
            student.name: {
                "scores": student.scores.to_values(),
                "teachers_order": _values(student.teachers_order),
                "teachers_order_within": _values(student.teachers_order_within),
                "teachers_boxes": _values(student.teachers_boxes),
                "opinions_order": student.opinions_order.to_values(),
                "opinions_order_within": student.opinions_order_within.to_values(),
                "ranking": source_numbers(student.observation.sources),
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


def _values(scores: CocoMetrics | None) -> dict[str, Any] | None:
    return None if scores is None else scores.to_values()


@dataclass(frozen=True)
class Verdict:
    """What the numbers say of a student, one sentence for each finding, the most important first.

    Attributes:
        headline: its AP beside the teacher's, its largest weakness, and the source of ranking that fits.
        details: what the headline rests on.
    """

    headline: tuple[str, ...]
    details: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of them."""
        return self.headline + self.details


def verdicts(measured: Measured) -> dict[str, Verdict]:
    """Return a verdict for each student; terms are explained in the first one."""
    return {
        student.name: Verdict(
            tuple(_headline(measured, student, explain=number == 0)),
            (
                *_costliest_errors(student, explain=number == 0),
                *_exchanges(student, explain=number == 0),
                *_ranking(student, explain=number == 0),
                *_features(student),
            ),
        )
        for number, student in enumerate(measured.students)
    }


def _headline(measured: Measured, student: Student, *, explain: bool) -> Iterator[str]:
    own, teacher = student.scores.AP, measured.teacher.AP
    if own is not None and teacher is not None:
        yield (
            f"{student.name} reaches {points(own)} AP, its teacher {points(teacher)} AP"
            f"{_note('COCO average precision, from 0 to 100', explain)}."
        )
    if own is not None:
        gains = gains_of(
            own,
            order=_best(student.teachers_order, student.opinions_order),
            within=_best(student.teachers_order_within, student.opinions_order_within),
            boxes=_best(student.teachers_boxes),
        )
        weakness = largest_weakness(gains)
        if weakness is None:
            yield f"No single weakness stands out: correcting any one adds less than {100 * WORTH_NAMING:.1f} AP."
        else:
            yield f"{WEAKNESSES[weakness]}: correcting it adds {100 * gains[weakness]:.1f} AP."
    yield fit_sentence(student.observation.sources, explain=explain)


def _best(*scores: CocoMetrics | None) -> float | None:
    """The best AP of what was measured, None if nothing was."""
    return max((each.AP for each in scores if each is not None and each.AP is not None), default=None)


def _costliest_errors(student: Student, *, explain: bool) -> Iterator[str]:
    costs = {kind: cost for kind, cost in student.errors.costs.items() if cost is not None}
    if costs:
        kind = max(costs, key=lambda each: costs[each])
        note = _note("AP where an IoU of 0.5 counts as found; IoU is the overlap of two boxes, from 0 to 1", explain)
        yield f"Its costliest errors are {ERRORS[kind]}: correcting them adds {points(costs[kind])} AP50{note}."


def _exchanges(student: Student, *, explain: bool) -> Iterator[str]:
    """What the student would reach with one thing of its teacher's."""
    own = student.scores.AP
    if own is None:
        return
    candidates = _note("the predictions that training assigns to it", explain)
    opinions = _note("scores by their overlap with the teacher's boxes", explain)
    for scores, sentence in (
        (student.teachers_order, "Its own boxes with the teacher's scores would reach {}."),
        (
            student.teachers_order_within,
            f"If only the candidates of each object{candidates} were ranked in the teacher's order, it would reach "
            "{}. Rank Mimicking teaches this order.",
        ),
        (student.opinions_order, f"Its own boxes with the teacher's opinions of them{opinions} would reach {{}}."),
        (
            student.opinions_order_within,
            f"If only the candidates of each object{'' if student.teachers_order_within else candidates} were ranked "
            "in the order of the opinions, it would reach {}.",
        ),
        (student.teachers_boxes, "The teacher's boxes with the student's scores would reach {}."),
    ):
        if scores is not None and scores.AP is not None:
            yield sentence.format(f"{points(scores.AP)} AP ({gap(scores.AP - own)})")


def _ranking(student: Student, *, explain: bool) -> Iterator[str]:
    ranks = student.observation.ranks
    top, tau = (ranks.mean(ALL, measure) for measure in ("top1", "tau"))
    if top is not None:
        yield f"Student and teacher rank the same candidate first for {percent(top)} of the objects."
    if tau is not None:
        note = "; 1: same order, 0: unrelated, -1: reversed" if explain else ""
        yield f"The mean rank correlation of their candidates is {correlation(tau)} (Kendall's tau{note})."
    first, others = (ranks.mean(ALL, measure) for measure in ("own_best_iou", "own_iou_at_teachers_best"))
    if first is not None:
        yield f"The student's box at the candidate that it ranks first has a mean IoU of {first:.3f} with the object."
    if others is not None:
        yield f"The student's box at the candidate that the teacher ranks first has a mean IoU of {others:.3f}."
    yield from source_sentences(student.observation.sources, explain=explain)


def _features(student: Student) -> Iterator[str]:
    levels = student.observation.levels.values()
    total, agreed = (sum(getattr(level, name) for level in levels) for name in ("features", "features_agreed"))
    if total > 0:
        yield (
            f"{percent(agreed / total)} of the difference between their features lies where their class probabilities "
            f"already agree within {AGREED:g}."
        )


def _note(text: str, explain: bool) -> str:
    """An explanation in brackets, where a term stands first."""
    return f" ({text})" if explain else ""


def gains_of(own: float, *, order: float | None, within: float | None, boxes: float | None) -> dict[Weakness, float]:
    """Return the AP, 0 to 1, that a student would gain from each thing of its teacher's alone, as far as it is known.

    Args:
        own: its AP, 0 to 1; the others are AP, too, or None.
        order: of its boxes in the teacher's order.
        within: of its boxes with the candidates of each object alone in the teacher's order.
        boxes: of the teacher's boxes in its order.
    """
    gains: dict[Weakness, float] = {}
    if boxes is not None:
        gains["boxes"] = boxes - own
    if within is not None:
        gains["order within objects"] = within - own
    if order is not None:
        gains["order of objects"] = order - max(within or own, own)
    return gains


def largest_weakness(gains: Mapping[Weakness, float]) -> Weakness | None:
    """Return what gains most; None where nothing gains enough to be named."""
    most = max(gains, key=lambda each: gains[each], default=None)
    return most if most is not None and gains[most] >= WORTH_NAMING else None


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
        ["gap to the teacher closed", *(share(student) for student in students)],
        ["same candidate ranked first", *(percent(ranks(student, "top1")) for student in students)],
        ["rank correlation (Kendall's tau)", *(correlation(ranks(student, "tau")) for student in students)],
        ["Rank Mimicking loss", *(number(ranks(student, "divergence")) for student in students)],
        [
            "feature difference F (level mean)",
            *(number(levels(student, "feature_difference")) for student in students),
        ],
        [
            "prediction difference P (level mean)",
            *(number(levels(student, "prediction_difference")) for student in students),
        ],
        ["AP50 lost to errors of all kinds", *(points(costs(student)) for student in students)],
    ]
    return ["", *(student.name for student in students)], rows


def percent(value: float | None) -> str:
    """A share of 0 to 1 in percent."""
    return "–" if value is None else f"{100 * value:.0f} %"


def correlation(value: float | None) -> str:
    """A correlation, -1 to 1, with two decimals."""
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}"


def gap(difference: float | None) -> str:
    """A difference of AP, -1 to 1, as signed points with one decimal; no difference is +0.0."""
    return "–" if difference is None else f"{round(100 * difference, 1) + 0.0:+.1f}"


def number(value: float | None) -> str:
    """Two digits that count."""
    return "–" if value is None else f"{value:.2g}" if abs(value) < 0.01 else f"{value:.2f}"
