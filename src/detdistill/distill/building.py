"""Terms from what a recipe says of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_type_hints

from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.settings import from_values
from detdistill.core.suggestions import did_you_mean
from detdistill.distill.term import Term
from detdistill.distill.terms import TERMS
from detdistill.distill.weighting import Weight

WEIGHTING = ("weight", "ratio", "decay", "ramp")


def build_terms(
    options: Mapping[str, Mapping[str, Any]], *, weight: Literal["auto", "paper"], ratio: float | None, detector: str
) -> tuple[dict[str, Term], dict[str, Weight]]:
    """Makes terms and their weights.

    Args:
        options: of each term by its name in `TERMS`: its keyword arguments, and any of `WEIGHTING`.
        weight: of terms that do not say.
        ratio: of terms that do not say; None takes each method's own.
        detector: the student's `kind`, for published weights.

    Raises:
        SettingsError: an unknown term or option, a value that cannot be, or no published weight for the detector.
    """
    unknown = [name for name in options if name not in TERMS]
    if unknown:
        message = f"distill.terms: there is no method {unknown[0]!r}; there are: {', '.join(TERMS)}"
        raise SettingsError(message + did_you_mean(message.partition(";")[0], TERMS))
    terms, weights = {}, {}
    for name, given in options.items():
        kind = TERMS[name]
        terms[name] = _build(name, kind, {key: value for key, value in given.items() if key not in WEIGHTING})
        usual = Weight(ratio=ratio)
        defaults = {"weight": weight, "ratio": usual.ratio, "decay": usual.decay, "ramp": usual.ramp}
        weights[name] = _weight(name, kind, defaults | dict(given), detector)
    return terms, weights


def _build(name: str, kind: type[Term], options: Mapping[str, Any]) -> Term:
    known = [*inspect.signature(kind).parameters, *WEIGHTING]
    unknown = [option for option in options if option not in known]
    if unknown:
        message = f"distill.terms.{name} has no option {unknown[0]!r}; it has: {', '.join(known)}"
        raise SettingsError(message + did_you_mean(message.partition(";")[0], known))
    hints = get_type_hints(kind.__init__)
    values = {
        option: from_values(hints[option], value, key=f"distill.terms.{name}.{option}")
        for option, value in options.items()
    }
    try:
        return kind(**values)
    except SettingsError:
        raise
    except DetdistillError as error:
        raise SettingsError(f"distill.terms.{name}.{error}") from error


def _weight(name: str, kind: type[Term], given: Mapping[str, Any], detector: str) -> Weight:
    value, ratio, decay, ramp = (given[key] for key in WEIGHTING)
    if value == "paper":
        published = kind.method.weights
        if detector not in published:
            raise SettingsError(
                f"distill.terms.{name}.weight: no weight is published for {detector} (there is one for: "
                f"{', '.join(published) or 'no detector'}); take auto, or a number"
            )
        value = published[detector]
    if isinstance(value, str) and value != "auto":
        raise SettingsError(
            f"distill.terms.{name}.weight must be auto, paper or a number of at least 0, not {value!r}"
            f"{did_you_mean(repr(value), ('auto', 'paper'))}"
        )
    try:
        return Weight(None if value == "auto" else value, ratio, decay, ramp)
    except DetdistillError as error:
        raise SettingsError(f"distill.terms.{name}.{error}") from error
