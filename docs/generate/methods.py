"""`docs/methods.md`: every method with its description, options, published weights and reported gains."""

from __future__ import annotations

import inspect

from docs.generate.markdown import table
from docstring_parser import parse

from detdistill.distill.methods import list_methods, published_weights, supported_heads
from detdistill.distill.term import OPINIONS, Method, Term
from detdistill.distill.terms import TERMS

INTRODUCTION = """\
# Methods

What a student can learn from its teacher. The names are those of `distill.terms` in a recipe and of `--terms`;
`detdistill methods` lists them, and `--json` does so for programs. A weight is found automatically (`weight: auto`)
unless a recipe says otherwise; `weight: paper` takes the published one. Weights and gains stand here only where they
could be verified at the source that is named: weights do not carry over between detectors, nor gains between papers,
whose baselines differ. Gains are in AP (0 to 100) on COCO's validation set, as others report them; none was measured
with this package.
What the methods gave beside each other in runs of this package, at a smaller scale, is in [the evidence](evidence.md).

This page is written by `python -m docs.generate`; a test compares the two.
"""


def page() -> str:
    """The page."""
    methods = [
        (f"[{each.name}](#{each.name})", each.paper, each.compares, ", ".join(each.detectors))
        for each in list_methods()
    ]
    overview = table(("method", "paper", "compares", "detectors"), methods)
    sections = [_section(name, kind) for name, kind in TERMS.items()]
    return "\n".join([INTRODUCTION, overview, *sections, ""])


def _section(name: str, kind: type[Term]) -> str:
    method, description = kind.method, parse(inspect.getdoc(kind) or "")
    defaults = inspect.signature(kind).parameters
    texts = [text for text in (description.short_description, description.long_description) if text]
    facts = {
        "paper": method.paper,
        "compares": method.compares,
        "needs": method.needs,
        "detectors": ", ".join(supported_heads(method)),
        "published weights": published_weights(name),
        "ratio of the automatic weight": _ratio(method),
        "reported COCO AP": method.reported or "–",
    }
    lines = [f"\n## {name}\n", "\n\n".join(texts), "", table(("", ""), facts.items())]
    if description.params:
        options = [
            (option.arg_name, str(defaults[option.arg_name].default), option.description or "")
            for option in description.params
        ]
        lines += ["", table(("option", "default", ""), options)]
    return "\n".join(lines)


def _ratio(method: Method) -> str:
    if OPINIONS not in method.teacher or method.opinion_ratio == method.ratio:
        return f"{method.ratio:g}"
    return f"{method.ratio:g}; by opinion {method.opinion_ratio:g}"
