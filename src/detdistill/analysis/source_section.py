"""The part of an analysis page about the sources of ranking."""

from __future__ import annotations

from detdistill.analysis.findings import percent
from detdistill.analysis.groups import in_order
from detdistill.analysis.measure import Student
from detdistill.analysis.source_findings import fit_sentence, interval, signed
from detdistill.analysis.sources import LEAST_OBJECTS, NOTICEABLE, ORDER_MEASURES, ORDERS, Order
from detdistill.core.texts import points
from detdistill.evaluation.coco_metrics import CocoMetrics
from detdistill.report.html import Section, Table, Text

NAMES: dict[Order, str] = {"student": "student", "grid": "teacher's scores", "opinion": "teacher's opinions"}


def source_section(student: Student) -> Section:
    """How well each order of a student's candidates agrees with the truth, what it is worth, and for which objects."""
    sources = student.observation.sources
    scores: dict[Order, tuple[CocoMetrics | None, CocoMetrics | None]] = {
        "student": (student.scores, student.scores),
        "grid": (student.teachers_order_within, student.teachers_order),
        "opinion": (student.opinions_order_within, student.opinions_order),
    }
    orders = []
    for order in ORDERS:
        tau = sources.taus[order].estimate()
        within, everywhere = (None if each is None else each.AP for each in scores[order])
        cells = [signed(tau.mean), interval(tau), str(tau.objects), points(within), points(everywhere)]
        orders.append([NAMES[order], *cells])
    groups = [
        [
            name,
            f"{values['objects']:.0f}",
            *(signed(values[order]) for order in ORDERS),
            percent(values["without_opinion"]),
        ]
        for name, values in in_order(sources.groups.table(ORDER_MEASURES))
    ]
    return Section(
        f"Sources of ranking: {student.name}",
        [
            Text(fit_sentence(sources, explain=False)),
            Table(
                ["order by", "tau", "95 % interval", "objects", "AP within objects", "AP of all scores"],
                orders,
                "tau: Kendall's tau-b of an order of an object's candidates and the true IoU of the student's boxes, "
                "the mean over objects. 1: the best box first; 0: chance. The teacher's scores are those of its own "
                "boxes at the same cells. Its opinion of a box is the largest product of the score of a box that it "
                "predicts and the squared IoU of the two. AP: of the student's boxes with each object's candidates in "
                "this order, and with all scores replaced.",
            ),
            Text(
                "An order is better than chance if its interval is above 0. One source fits better than the other if "
                f"the interval of their difference excludes 0 and the difference is at least {NOTICEABLE:g}. At least "
                f"{LEAST_OBJECTS} objects are needed. Images, not objects, count as independent."
            ),
            Table(
                ["", "objects", *(NAMES[order] for order in ORDERS), "without opinion"],
                groups,
                "tau of each order by group of objects, and the share of objects without an opinion: the teacher "
                "predicts no box of their class that overlaps one of their candidates.",
            ),
        ],
    )
