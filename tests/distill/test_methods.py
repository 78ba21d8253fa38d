from __future__ import annotations

import inspect

import pytest
from docstring_parser import parse

from detdistill.detectors.dense.detector import HEADS
from detdistill.distill.methods import list_methods
from detdistill.distill.terms import TERMS


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
    assert set(method.detectors) <= set(HEADS)
    assert set(method.weights) <= set(method.detectors)
    assert bool(method.weights) == bool(method.sources), "a weight has a source"
    described = [option.arg_name for option in parse(inspect.getdoc(kind) or "").params]
    assert described == list(inspect.signature(kind).parameters)
    assert "|" not in "".join((method.paper, method.compares, method.needs, method.sources, method.reported))
