"""What a student can be taught by: every method that there is, as data and as a page."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from docstring_parser import parse

from detdistill.distill.term import Term
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
            kind.method.detectors,
            {head: kind.method.weights.get(head, "auto") for head in kind.method.detectors},
        )
        for name, kind in TERMS.items()
    ]


INTRODUCTION = """\
# Methods

What a student can learn from its teacher. The names are those of `terms` in a recipe and of `--terms`; `detdistill
methods` lists them, and `--json` does so for programs. A weight is found automatically (`weight: auto`) unless a recipe
says otherwise; `weight: paper` takes the published one. Weights and gains stand here only where they could be verified
at the source that is named: weights do not carry over between detectors, nor gains between papers, whose baselines
differ. Gains are in AP (0 to 100) on COCO's validation set, as others report them; none was measured with this package.

This page is written by `detdistill.distill.methods.methods_page`; a test compares the two.
"""


def methods_page() -> str:
    """`docs/methods.md`: every method with its description, options, published weights and reported gains."""
    overview = ["| method | paper | compares | detectors |", "|---|---|---|---|"]
    overview += [
        f"| [{each.name}](#{each.name}) | {each.paper} | {each.compares} | {', '.join(each.detectors)} |"
        for each in list_methods()
    ]
    sections = [_section(name, kind) for name, kind in TERMS.items()]
    return "\n".join([INTRODUCTION, *overview, *sections, ""])


def published_weights(name: str) -> str:
    """The published weights of a method and where they come from, in one line; a dash if there are none."""
    method = TERMS[name].method
    weights = ", ".join(f"{head} {weight:g}" for head, weight in method.weights.items())
    return f"{weights}; {method.sources}" if weights else "–"


def _section(name: str, kind: type[Term]) -> str:
    method, description = kind.method, parse(inspect.getdoc(kind) or "")
    defaults = inspect.signature(kind).parameters
    texts = [text for text in (description.short_description, description.long_description) if text]
    facts = {
        "paper": method.paper,
        "compares": method.compares,
        "needs": method.needs,
        "detectors": ", ".join(method.detectors),
        "published weights": published_weights(name),
        "reported COCO AP": method.reported or "–",
    }
    lines = [f"\n## {name}\n", "\n\n".join(texts), "", "| | |", "|---|---|"]
    lines += [f"| {what} | {said} |" for what, said in facts.items()]
    if description.params:
        lines += ["", "| option | default | |", "|---|---|---|"]
        lines += [
            f"| {option.arg_name} | {defaults[option.arg_name].default} | {_in_a_cell(option.description or '')} |"
            for option in description.params
        ]
    return "\n".join(lines)


def _in_a_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
