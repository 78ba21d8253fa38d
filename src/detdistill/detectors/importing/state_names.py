"""Names of parameters without what wrappers put before and into them: one rule for every library's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from detdistill.core.errors import DetdistillError

EVERYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Segments that torch.compile, FSDP and activation checkpointing put anywhere into a name."""

TRANSPARENT = ("module", "_forward_module")
"""Leading segments of wrappers that hold nothing but the network: DDP, DataParallel, averages, DeepSpeed."""

AVERAGES = ("ema", "ema_model", "model_ema", "ema_network", "averaged_model")
STUDENTS = ("student", "student_model", "architecture")
TEACHERS = ("teacher", "teacher_model")
HOLDERS = ("model", "net", "network", "detector", "online_model", *AVERAGES, *STUDENTS, *TEACHERS)
"""Leading segments of wrappers that may hold more than one network: Lightning, mmrazor, distillation, averages."""

COUNTERS = ("n_averaged", "steps", "step", "initted", "num_updates", "decay", "updates")
"""Tensors of averages that are no part of a network."""

INLINE_AVERAGE = "ema_"
"""Prefix of mmengine's and mmcv's averages, which is not a segment."""

LEAST_SHARE = 0.5
"""A group of names that is smaller than this share of the largest is not a network of its own, but an addition."""

WHOLE = re.compile(r"^(?:(.+)\.)?(backbone|bbox_head|head)\.")


@dataclass(frozen=True)
class NetworkNames:
    """The one network that is taken of a state dict.

    Attributes:
        names: name in the file by plain name, in the file's order.
        notes: which network was taken and what was left out, if there was a choice; one sentence each.
    """

    names: Mapping[str, str]
    notes: tuple[str, ...] = ()


def network_names(keys: Iterable[str]) -> NetworkNames:
    """Finds the network in a state dict, below wrappers such as `module.`, `_orig_mod.`, `model.` or `student.`.

    Wrappers are removed from the start of a name, nested in any way; a network's own modules with such names further
    inside stay, except `_orig_mod` and its like. Any other prefix is a wrapper too if both `backbone.` and `head.` or
    `bbox_head.` follow it. Of a moving average and the weights the average is taken, of a student and a teacher the
    student.

    Args:
        keys: of the state dict.

    Raises:
        DetdistillError: there are several networks and nothing tells which is meant; without the file's name.
    """
    given = list(keys)
    holders = _holders(given)
    split = {key: _split(key, holders) for key in given}
    averages = {key: parts for key, parts in split.items() if parts[1].startswith(INLINE_AVERAGE)}
    notes = []
    if averages and len(averages) == len(split):
        inner = {key: _split(name.removeprefix(INLINE_AVERAGE), holders) for key, (_, name) in averages.items()}
        split = {key: (averages[key][0] + wrappers, name) for key, (wrappers, name) in inner.items()}
    elif averages:
        split = {key: parts for key, parts in split.items() if key not in averages}
        notes.append(f"{len(averages)} tensors named {INLINE_AVERAGE}… were left out: the plain names hold the average")
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for key, (wrappers, name) in split.items():
        if name in COUNTERS:
            continue
        other = groups.setdefault(wrappers, {}).setdefault(name, key)
        if other != key:
            raise DetdistillError(f"holds {name} twice, as {other} and as {key}: save one network's state dict")
    taken = _chosen(groups)
    left = {wrappers: len(found) for wrappers, found in groups.items() if wrappers != taken}
    if left:
        counts = ", ".join(f"{_where(wrappers)} ({count})" for wrappers, count in left.items())
        notes.insert(0, f"the weights {_where(taken)} were taken; left out: the tensors {counts}")
    elif not set(taken).isdisjoint(TEACHERS):
        notes.insert(0, f"the weights {_where(taken)} were taken: there are no others")
    return NetworkNames(groups.get(taken, {}), tuple(notes))


def _plain(key: str) -> list[str]:
    return [part for part in key.split(".") if part not in EVERYWHERE] or [key]


def _holders(keys: Sequence[str]) -> set[str]:
    """The names of wrappers, with those that are known by the network below them."""
    parts: dict[str, set[str]] = {}
    for key in keys:
        match = WHOLE.match(".".join(_plain(key)))
        if match is not None and match[1]:
            parts.setdefault(match[1], set()).add("backbone" if match[2] == "backbone" else "head")
    found = {segment for prefix, seen in parts.items() if len(seen) == 2 for segment in prefix.split(".")}
    return {*HOLDERS, *found} - set(TRANSPARENT)


def _split(key: str, holders: set[str]) -> tuple[tuple[str, ...], str]:
    """The holders at the start of a key, and the name below all wrappers."""
    parts = _plain(key)
    start = 0
    while start < len(parts) - 1 and (parts[start] in holders or parts[start] in TRANSPARENT):
        start += 1
    return tuple(part for part in parts[:start] if part in holders), ".".join(parts[start:])


def _chosen(groups: Mapping[tuple[str, ...], Mapping[str, str]]) -> tuple[str, ...]:
    if not groups:
        return ()
    own = [wrappers for wrappers in groups if set(wrappers).isdisjoint(TEACHERS)] or list(groups)
    largest = max(len(groups[wrappers]) for wrappers in own)
    networks = [wrappers for wrappers in own if len(groups[wrappers]) >= LEAST_SHARE * largest]
    for preferred in (STUDENTS, AVERAGES):
        better = [wrappers for wrappers in networks if not set(wrappers).isdisjoint(preferred)]
        networks = better or networks
    if len(networks) > 1:
        found = " and ".join(f"{len(groups[wrappers])} tensors {_where(wrappers)}" for wrappers in networks)
        raise DetdistillError(
            f"holds several networks ({found}); expected one: save the state dict of the one to be used"
        )
    return networks[0]


def _where(wrappers: Sequence[str]) -> str:
    return f"under {'.'.join(wrappers)}." if wrappers else "without a prefix"
