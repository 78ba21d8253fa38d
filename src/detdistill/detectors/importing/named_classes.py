"""Class names of an imported checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from detdistill.core.errors import DetdistillError

SHOWN_NAMES = 5
NAME_THEM = (
    'give the names with --classes "[cat,dog]" (Python: classes), or number them with --number-classes '
    "(Python: number_classes=True)"
)


def named_classes(
    meta: Mapping[Any, Any], count: int, given: Sequence[str] | None, *, numbered: bool
) -> tuple[tuple[str, ...], Literal["given", "meta"]]:
    """The class names that are given, or that the checkpoint holds, and which of the two.

    Args:
        meta: what the checkpoint holds beside its weights.
        count: number of classes of the weights.
        given: by the caller, instead.
        numbered: call the classes `class_0`, `class_1`, … if there are not `count` names.

    Raises:
        DetdistillError: there are no names, another number of them, or two equal ones; without the file's name.
    """
    dataset = meta.get("dataset_meta")
    held = dataset if isinstance(dataset, Mapping) else meta
    found = given or held.get("classes") or held.get("CLASSES") or meta.get("CLASSES")
    if isinstance(found, str):
        found = [found]
    is_list = isinstance(found, list | tuple) and all(isinstance(name, str) for name in found)
    names = tuple(found) if is_list and found else ()
    if numbered and not given and len(names) != count:
        return tuple(f"class_{index}" for index in range(count)), "given"
    if not names:
        raise DetdistillError(f"it does not name its {count} classes: {NAME_THEM}")
    if len(names) != count:
        shown = ", ".join([*names[:SHOWN_NAMES], *["…"] * (len(names) > SHOWN_NAMES)])
        raise DetdistillError(
            f"its weights have {count} classes, but {'--classes' if given else 'the checkpoint'} has {len(names)} "
            f"names ({shown}): {NAME_THEM}"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DetdistillError(f"its class names must differ, but {twice} is there twice: {NAME_THEM}")
    return names, "given" if given else "meta"
