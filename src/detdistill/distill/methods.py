"""What a student can be taught by: every method that there is."""

from __future__ import annotations

from dataclasses import dataclass

from detdistill.core.offers import Offer
from detdistill.detectors.dense.detector import HEADS
from detdistill.distill.term import Method
from detdistill.distill.terms import TERMS


@dataclass(frozen=True)
class ListedMethod:
    """What is to be known of a method before it is chosen.

    Attributes:
        name: in recipes.
        paper: where it was published.
        compares: what of the two detectors is compared.
        needs: what both must have.
        detectors: heads that it works with.
        default_weight: for each of them the published weight, which `weight: paper` takes, or `auto`, which a recipe
            means unless it says otherwise, where none could be verified.
    """

    name: str
    paper: str
    compares: str
    needs: str
    detectors: tuple[str, ...]
    default_weight: dict[str, float | str]


def list_methods() -> list[ListedMethod]:
    """All methods, in the order of `TERMS`."""
    return [
        ListedMethod(
            name,
            kind.method.paper,
            kind.method.compares,
            kind.method.needs,
            supported_heads(kind.method),
            {head: kind.method.weights.get(head, "auto") for head in supported_heads(kind.method)},
        )
        for name, kind in TERMS.items()
    ]


def supported_heads(method: Method) -> tuple[str, ...]:
    """The heads that a method works with, as student and as teacher."""
    return tuple(head for head, kind in HEADS.items() if not method.missing(kind.offers, kind.offers))


def what_works(student: frozenset[Offer], teacher: frozenset[Offer]) -> list[str]:
    """Which terms work for a student and a teacher with these offers, and why others do not, a line each."""
    working = working_terms(student, teacher)
    on_cells = [name for name in working if TERMS[name].method.teacher[0] <= teacher]
    by_opinion = [name for name in working if name not in on_cells]
    refused: dict[str, list[str]] = {}
    for name, kind in TERMS.items():
        if name not in working:
            refused.setdefault(kind.method.missing(student, teacher), []).append(name)
    lines = [f"the teacher offers {', '.join(sorted(teacher))}"]
    for what, names in (("terms on common cells", on_cells), ("terms by the teacher's opinion", by_opinion)):
        if names:
            lines.append(f"{what}: {', '.join(names)}")
    return [*lines, *(f"not possible, {why}: {', '.join(names)}" for why, names in refused.items())]


def working_terms(student: frozenset[Offer], teacher: frozenset[Offer]) -> list[str]:
    """The terms that work for a student and a teacher with these offers."""
    return [name for name, kind in TERMS.items() if not kind.method.missing(student, teacher)]


def published_weights(name: str) -> str:
    """The published weights of a method and where they come from, in one line; a dash if there are none."""
    method = TERMS[name].method
    weights = ", ".join(f"{head} {weight:g}" for head, weight in method.weights.items())
    return f"{weights}; {method.sources}" if weights else "–"
