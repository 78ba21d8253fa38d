"""Former keys of recipes: errors name the present ones, and the recipes in older run folders are converted."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "detector.head": "detector.kind",
    "detector.channels": "detector.pyramid.channels",
    "detector.extra_levels": "detector.pyramid.extra_levels",
    "detector.extra_source": "detector.pyramid.extra_source",
    "detector.extra_relu": "detector.pyramid.extra_relu",
    "start.run": "start.from",
    "teacher": "distill.teacher",
    "terms": "distill.terms",
    "weight": "distill.weight",
    "ratio": "distill.ratio",
    "class_map": "distill.class_map",
    "teacher_memory": "distill.memory",
    "init_from_teacher": "distill.init_from_teacher",
}
"""Dotted keys of the first version, with the present ones."""


def converted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested values of a recipe with the present keys in the place of former ones."""
    new = copy.deepcopy(dict(values))
    for former, present in RENAMED.items():
        group, _, key = former.rpartition(".")
        holder = new.get(group) if group else new
        if isinstance(holder, dict) and key in holder:
            value = holder.pop(key)
            *groups, name = present.split(".")
            inner = new
            for part in groups:
                inner = inner.setdefault(part, {})
            inner[name] = value
    return new
