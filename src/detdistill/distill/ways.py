"""Which correspondence makes the views of which term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from detdistill.core.bounds import LARGEST_SIDE
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.offers import Offer
from detdistill.core.output import Output, RegionReader
from detdistill.core.teacher_size import examples
from detdistill.distill.class_map import ClassMap
from detdistill.distill.grid_correspondence import Strides, at_cells, grid_correspondence, strides_of
from detdistill.distill.opinion_correspondence import OpinionCorrespondence
from detdistill.distill.proposal_correspondence import ProposalCorrespondence
from detdistill.distill.term import Term
from detdistill.distill.view import Correspondence, Need
from detdistill.teachers.teacher import Guidance


@dataclass(frozen=True, eq=False)
class Ways:
    """The correspondences of a set of terms; terms that need the same share one.

    Attributes:
        correspondences: all different.
        of_term: the places of each term's, at least one, by its name.
        wanted: what they read of the teacher's guidance.
    """

    correspondences: tuple[Correspondence, ...]
    of_term: Mapping[str, tuple[int, ...]]
    wanted: frozenset[Offer]


def usual_correspondences(
    student: Output,
    guidance: Guidance,
    offers: frozenset[Offer],
    classes: ClassMap,
    size: ImageSize | None = None,
    reader: RegionReader | None = None,
) -> tuple[list[Correspondence], str]:
    """Return the ways to bring a student and a teacher together that the teacher's offers allow, the best first.

    Args:
        student: its output for an example.
        guidance: the teacher's.
        offers: of the teacher.
        classes: which classes mean the same.
        size: of the student's images; None if it is not known.
        reader: the teacher's second stage, if both have one.

    Returns:
        The ways, and why the two are not compared on common cells; empty if they are.
    """
    ways: list[Correspondence] = [OpinionCorrespondence(classes)] if "opinions" in offers else []
    if reader is not None and guidance.ratio == 1:
        ways.insert(0, ProposalCorrespondence(classes, reader))
    for side, output in (("student", student), ("teacher", guidance.output)):
        if output is None or (output.stages and output.on_grid is None):
            return ways, f"the {side} predicts nothing on a grid of cells"
    assert guidance.output is not None
    cells, theirs = at_cells(student), at_cells(guidance.output)
    if theirs.stages and cells.predictions.any_class != theirs.predictions.any_class:
        offers = offers & {"features"}
    own, other = strides_of(cells), strides_of(theirs)
    try:
        return [grid_correspondence(own, other, classes, offers), *ways], ""
    except DetdistillError as error:
        return ways, str(error) if guidance.ratio == 1 else _other_sizes(own, other, guidance.ratio, size)


def _other_sizes(own: Strides, other: Strides, ratio: float, size: ImageSize | None) -> str:
    """Why levels do not meet at the teacher's image size, and sizes at which some do.

    Args:
        own: strides of the student.
        other: strides of the teacher, in pixels of the student.
        ratio: of the teacher's image size to the student's.
        size: of the student's images; None if it is not known.
    """
    meeting = {
        Fraction(stride * ratio / mine).limit_denominator(LARGEST_SIDE) for stride, _ in other for mine, _ in own
    }
    nearest = sorted(meeting, key=lambda each: (abs(math.log(each / ratio)), each))
    sizes = (
        f"sizes of {', '.join(f'{float(each):.4g}' for each in nearest[:4])} times the student's"
        if size is None
        else examples(size, nearest)
    )
    theirs, mine = (", ".join(f"{stride:.4g}" for stride, _ in side) for side in (other, own))
    return (
        f"distill.teacher_images: at {ratio:.4g} times the student's image size, the teacher's strides are {theirs} "
        f"pixels of the student's image and the student's are {mine}, so that no levels meet; expected, for example, "
        f"{sizes}; or terms that work by opinion (source: opinion)"
    )


def ways_of(
    terms: Mapping[str, Term],
    correspondences: Sequence[Correspondence],
    why: str,
    first_of: frozenset[Offer] | None = None,
) -> Ways:
    """Choose a correspondence for each term: the first that has what it needs.

    Args:
        terms: by name.
        correspondences: to choose from, the best first.
        why: there are no more of them; empty if there is no reason.
        first_of: what the teacher offers: each term takes the first of its needs that is among it, or none. None lets
            a term take any of its needs that can be met.

    Raises:
        DetdistillError: a term cannot be served by any.
    """
    chosen: list[Correspondence] = []
    of_term: dict[str, tuple[int, ...]] = {}
    wanted: set[Offer] = set()
    for name, term in terms.items():
        needs = [need for need in term.needs if first_of is None or need.offers <= first_of]
        served = _region_way(term, correspondences)
        if not served or _is_served(needs, correspondences):
            served.insert(0, _way(name, needs if first_of is None else needs[:1], correspondences, why))
        chosen += [way for way, _ in served if way not in chosen]
        of_term[name] = tuple(chosen.index(way) for way, _ in served)
        wanted = wanted.union(*(need.offers for _, need in served))
    return Ways(tuple(chosen), of_term, frozenset(wanted))


def _region_way(term: Term, correspondences: Sequence[Correspondence]) -> list[tuple[Correspondence, Need]]:
    """The way by which a term sees shared proposals, if it reads them and both detectors have them."""
    need = term.region_need
    if need is None:
        return []
    return [(way.serving(need), need) for way in correspondences if need.offers <= way.offers][:1]


def _is_served(needs: Sequence[Need], correspondences: Sequence[Correspondence]) -> bool:
    """Whether a term that reads shared proposals also has a view of the cells: opinions are no better than these."""
    return any("opinions" not in need.offers and need.offers <= way.offers for need in needs for way in correspondences)


def _way(
    name: str, wanted: Sequence[Need], correspondences: Sequence[Correspondence], why: str
) -> tuple[Correspondence, Need]:
    for need in wanted:
        for way in correspondences:
            if need.offers <= way.offers:
                return way.serving(need), need
    needs, offers = ([", ".join(sorted(each.offers)) for each in group] for group in (wanted, correspondences))
    raise DetdistillError(
        f"{name} cannot be used: it needs {' or '.join(needs)}, and the two detectors are compared by "
        f"{' or '.join(offers) or 'nothing'}{why and ': '}{why}"
    )
