from __future__ import annotations

import inspect

import pytest
from docstring_parser import parse

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.detector import HEADS
from detdistill.distill.distiller import Distiller
from detdistill.distill.methods import list_methods, supported_heads
from detdistill.distill.terms import TERMS
from detdistill.distill.terms.cross_head import CrossHead
from support.tiny_detector import tiny_detector


def test_every_method_is_listed() -> None:
    listed = list_methods()
    assert [method.name for method in listed] == list(TERMS)
    for method in listed:
        published = TERMS[method.name].method.weights
        assert tuple(method.default_weight) == method.detectors
        assert {head for head, weight in method.default_weight.items() if weight != "auto"} == set(published)
        assert all(method.default_weight[head] == weight for head, weight in published.items())


@pytest.mark.parametrize("name", TERMS)
def test_a_method_is_described_completely(name: str) -> None:
    kind = TERMS[name]
    method = kind.method
    assert method.paper
    assert method.compares
    assert method.needs
    assert set(supported_heads(method)) <= set(HEADS)
    assert set(method.weights) <= set(supported_heads(method))
    assert bool(method.weights) == bool(method.sources), "a weight has a source"
    described = [option.arg_name for option in parse(inspect.getdoc(kind) or "").params]
    assert described == list(inspect.signature(kind).parameters)
    assert "|" not in "".join((method.paper, method.compares, method.needs, method.sources, method.reported))


LIMITS: dict[str, tuple[set[str], set[str]]] = {
    "fine_grained": (set(HEADS) - {"fcos"}, set(HEADS)),
    "localization": ({"gfl", "gflv2"}, {"gfl", "gflv2"}),
}
"""Heads of students and of teachers that a method works with, where these are not all."""


@pytest.mark.parametrize("own", HEADS)
@pytest.mark.parametrize("other", HEADS)
def test_what_is_supported_is_what_works(own: HeadName, other: HeadName) -> None:
    student, teacher = tiny_detector(own), tiny_detector(other, seed=1)
    working = {}
    for name, kind in TERMS.items():
        students, teachers = LIMITS.get(name, (set(HEADS), set(HEADS)))
        term = CrossHead(position=1) if name == "cross_head" else kind()
        missing = kind.method.missing(student.offers, teacher.offers)
        assert (missing == "") == (own in students and other in teachers), name
        if missing:
            with pytest.raises(DetdistillError, match=f"{name} cannot be used: the (student|teacher) offers no"):
                Distiller(student, teacher, {name: term})
        else:
            working[name] = term
    Distiller(student, teacher, working)
