"""Which correspondence makes the views of which term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detdistill.core.errors import DetdistillError
from detdistill.core.offers import Offer
from detdistill.core.output import Output
from detdistill.distill.class_map import ClassMap
from detdistill.distill.grid_correspondence import grid_correspondence, strides_of
from detdistill.distill.opinion_correspondence import OpinionCorrespondence
from detdistill.distill.term import Term
from detdistill.distill.view import Correspondence, Need
from detdistill.teachers.teacher import Guidance


@dataclass(frozen=True, eq=False)
class Ways:
    """The correspondences of a set of terms; terms that need the same share one.

    Attributes:
        correspondences: all different.
        of_term: the place of each term's, by its name.
        wanted: what they read of the teacher's guidance.
    """

    correspondences: tuple[Correspondence, ...]
    of_term: Mapping[str, int]
    wanted: frozenset[Offer]


def usual_correspondences(
    student: Output, guidance: Guidance, offers: frozenset[Offer], classes: ClassMap
) -> tuple[list[Correspondence], str]:
    """Return the ways to bring a student and a teacher together that the teacher's offers allow, the best first.

    Args:
        student: its output for an example.
        guidance: the teacher's.
        offers: of the teacher.
        classes: which classes mean the same.

    Returns:
        The ways, and why the two are not compared on common cells; empty if they are.
    """
    ways: list[Correspondence] = [OpinionCorrespondence(classes)] if "opinions" in offers else []
    for side, output in (("student", student), ("teacher", guidance.output)):
        if output is None or (output.stages and output.predictions.candidates.grid is None):
            return ways, f"the {side}'s final predictions are not on a grid of cells"
    assert guidance.output is not None
    try:
        strides = strides_of(student), strides_of(guidance.output)
        return [grid_correspondence(*strides, classes, offers), *ways], ""
    except DetdistillError as error:
        return ways, str(error)


def ways_of(terms: Mapping[str, Term], correspondences: Sequence[Correspondence], why: str) -> Ways:
    """Choose a correspondence for each term: the first that has what it needs.

    Args:
        terms: by name.
        correspondences: to choose from, the best first.
        why: there are no more of them; empty if there is no reason.

    Raises:
        DetdistillError: a term cannot be served by any.
    """
    chosen: list[Correspondence] = []
    of_term: dict[str, int] = {}
    wanted: set[Offer] = set()
    for name, term in terms.items():
        way, need = _way(name, term, correspondences, why)
        if way not in chosen:
            chosen.append(way)
        of_term[name] = chosen.index(way)
        wanted |= need.offers
    return Ways(tuple(chosen), of_term, frozenset(wanted))


def _way(name: str, term: Term, correspondences: Sequence[Correspondence], why: str) -> tuple[Correspondence, Need]:
    for need in term.needs:
        for way in correspondences:
            if need.offers <= way.offers:
                return way.serving(need), need
    needs, offers = ([", ".join(sorted(each.offers)) for each in group] for group in (term.needs, correspondences))
    raise DetdistillError(
        f"{name} cannot be used: it needs {' or '.join(needs)}, and the two detectors are compared by "
        f"{' or '.join(offers) or 'nothing'}{why and ': '}{why}"
    )
