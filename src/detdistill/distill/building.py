"""Terms from what a recipe says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from detdistill.distill.term import Term
from detdistill.distill.terms import TERMS
from detdistill.distill.weighting import Weight
from detdistill.errors import DetdistillError
from detdistill.suggestions import did_you_mean

WEIGHTING = ("weight", "ratio", "decay")


def build_terms(
    options: Mapping[str, Mapping[str, Any]], *, weight: Literal["auto", "paper"], ratio: float, head: str | None
) -> tuple[dict[str, Term], dict[str, Weight]]:
    """Makes terms and their weights.

    Args:
        options: of each term by its name in `TERMS`: its keyword arguments, and any of `weight`, `ratio`, `decay`.
        weight: of terms that do not say.
        ratio: of terms that do not say; see `Weight`.
        head: the student's, for published weights; None if it has none that is known.

    Raises:
        DetdistillError: an unknown term or option, a value that cannot be, or no published weight for the head.
    """
    unknown = [name for name in options if name not in TERMS]
    if unknown:
        message = f"terms: there is no method {unknown[0]!r}; there are: {', '.join(TERMS)}"
        raise DetdistillError(message + did_you_mean(message.partition(";")[0], TERMS))
    terms, weights = {}, {}
    for name, given in options.items():
        kind = TERMS[name]
        terms[name] = _build(name, kind, {key: value for key, value in given.items() if key not in WEIGHTING})
        weights[name] = _weight(name, kind, {"weight": weight, "ratio": ratio, "decay": "none"} | dict(given), head)
    return terms, weights


def _build(name: str, kind: type[Term], options: Mapping[str, Any]) -> Term:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, None)
    try:
        return kind(**vars(parser.parse_object(dict(options))))
    except (ArgumentError, DetdistillError) as error:
        message = str(error).replace("Problem with given Namespace", "wrong option").splitlines()
        known = [action.dest for action in parser._actions if action.dest != "help"]
        raise DetdistillError(
            f"terms.{name}: {' '.join(message)}; its options are: {', '.join([*known, *WEIGHTING])}"
            f"{did_you_mean(str(error), [*known, *WEIGHTING])}"
        ) from error


def _weight(name: str, kind: type[Term], given: Mapping[str, Any], head: str | None) -> Weight:
    value, ratio, decay = (given[key] for key in WEIGHTING)
    if value == "paper":
        published = kind.method.weights
        if head is None or head not in published:
            raise DetdistillError(
                f"terms.{name}.weight: nobody has published a weight for the head {head} (there are: "
                f"{', '.join(published) or 'none'}); take auto, or a number"
            )
        value = published[head]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (value == "auto" or (is_number and value >= 0)):
        raise DetdistillError(f"terms.{name}.weight must be auto, paper or a number of at least 0, not {value!r}")
    if not (isinstance(ratio, int | float) and ratio > 0):
        raise DetdistillError(f"terms.{name}.ratio must be a number above 0, not {ratio!r}")
    if decay not in ("none", "linear", "cosine"):
        raise DetdistillError(f"terms.{name}.decay must be none, linear or cosine, not {decay!r}")
    return Weight(None if value == "auto" else float(value), float(ratio), decay)
