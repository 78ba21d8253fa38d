"""Which part each group of images belongs to: shares that are kept, and classes in every part where possible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Images that stay together.

    Attributes:
        size: number of images.
        labels: the classes that have objects in them.
    """

    size: int
    labels: frozenset[int]


def assign(groups: Sequence[Group], wanted: Mapping[str, int], rest: str) -> list[str]:
    """Assign each group to a part.

    In the given order, each part takes the groups that fit. Then, for each class that a part lacks, the rarest class
    first, the first group that has it is exchanged for others of the same total size, as long as no part loses a
    rarer class by it. A class in fewer groups than there are parts is in `rest` first, for which others may lose any.

    Args:
        groups: in the order in which they are taken.
        wanted: the largest number of images of each part.
        rest: the part of all other groups; it has at least one image.

    Returns:
        The part of each group. A part in which no group fits is missing.
    """
    parts = [rest] * len(groups)
    total = sum(group.size for group in groups)
    for number, (part, most) in enumerate(wanted.items(), start=1):
        taken = sum(group.size for group, owner in zip(groups, parts, strict=True) if owner != rest)
        # One image is left for the rest, and one for each part that comes later.
        room = min(most, total - taken - 1 - (len(wanted) - number))
        for index, group in enumerate(groups):
            if parts[index] == rest and group.size <= room:
                parts[index] = part
                room -= group.size
    _spread_classes(groups, parts, [rest, *wanted])
    return parts


def _spread_classes(groups: Sequence[Group], parts: list[str], order: Sequence[str]) -> None:
    """Exchange groups, in place, so that each class is in as many of the parts as it has groups for."""
    holders: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        for label in group.labels:
            holders.setdefault(label, []).append(index)
    counts: dict[str, Counter[int]] = {part: Counter() for part in order}
    for group, part in zip(groups, parts, strict=True):
        counts[part].update(group.labels)
    entitled = {}
    for label, indices in holders.items():
        # The parts that have the class already come before those that would need an exchange.
        preferred = sorted(order[1:], key=lambda part: not counts[part][label])
        entitled[label] = {order[0], *preferred[: len(indices) - 1]}
    in_rest = {label: {order[0]} for label in holders}
    done: dict[int, set[str]] = {}
    for label in sorted(holders, key=lambda label: (len(holders[label]), label)):
        done[label] = entitled[label]
        for part in order:
            if part not in entitled[label] or counts[part][label]:
                continue
            members = [index for index, owner in enumerate(parts) if owner == part]
            # At first no class may be lost by it; then only classes that get their turn later. The rest, which is
            # trained on, lacks a class last: for it, other parts may lose any.
            tiers = (entitled, done, in_rest) if part == order[0] else (entitled, done)
            candidates = [(index, protected) for protected in tiers for index in holders[label]]
            for index, protected in candidates:
                donor = parts[index]
                partners = _partners(groups, members, index, (donor, part), counts, protected)
                if partners is not None:
                    for moved, source, target in ((index, donor, part), *((p, part, donor) for p in partners)):
                        parts[moved] = target
                        counts[source].subtract(groups[moved].labels)
                        counts[target].update(groups[moved].labels)
                    break


def _partners(
    groups: Sequence[Group],
    members: Sequence[int],
    index: int,
    between: tuple[str, str],
    counts: Mapping[str, Counter[int]],
    protected: Mapping[int, set[str]],
) -> list[int] | None:
    """Find the groups that one part gives for a group of another one, the donor, so that neither loses a class.

    Args:
        groups: all groups.
        members: those of the part that gives.
        index: the group that it gets.
        between: the donor and the part that gives.
        counts: groups of each class in each part.
        protected: for each class that must not be lost, the parts that should have it.

    Returns:
        Members of the same total size as the group; None if there are none.
    """
    group, (donor, part) = groups[index], between
    given: Counter[int] = Counter()
    partners: list[int] = []
    missing = group.size
    for candidate in reversed(members):
        other = groups[candidate]
        keeps_its_classes = all(
            part not in protected.get(label, ()) or counts[part][label] + (label in group.labels) - given[label] > 1
            for label in other.labels
        )
        if missing and other.size <= missing and keeps_its_classes:
            partners.append(candidate)
            given.update(other.labels)
            missing -= other.size
    lost = any(donor in protected.get(label, ()) and counts[donor][label] + given[label] < 2 for label in group.labels)
    return None if missing or lost else partners
