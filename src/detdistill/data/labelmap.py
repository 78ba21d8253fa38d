"""`labelmap.txt`, the class list that CVAT and Datumaro keep beside PASCAL VOC's folders.

VOC itself has no class list: without one, a part's classes are those of its objects, sorted by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detdistill.core.errors import DataError
from detdistill.core.files import read_regular
from detdistill.data.text_files import LARGEST_NAMES

LABELMAP = "labelmap.txt"

_COLONS = 3  # name:color:parts:actions
_BLACK = "0,0,0"


def write_labelmap(folder: Path, classes: Sequence[str]) -> None:
    """Write the class list of a VOC folder; the names hold no line break."""
    lines = ["# label:color_rgb:parts:actions", *(f"{name}:::" for name in classes)]
    (folder / LABELMAP).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_labelmap(folder: Path) -> list[str]:
    """Read the class list of a VOC folder.

    Args:
        folder: the folder of `Annotations`.

    Returns:
        The class names in the file's order, each once, without the black `background` that segmentation needs; none
        if there is no such file.

    Raises:
        DataError: the file is there and cannot be read.
    """
    file = folder / LABELMAP
    try:
        lines = read_regular(file, LARGEST_NAMES).decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: the class list cannot be read ({error}); correct or remove the file") from error
    names: dict[str, None] = {}
    for number, line in enumerate(lines):
        # The header begins with #, and so may a class.
        if line.startswith("#") and (number == 0 or line.count(":") < _COLONS):
            continue
        name, *fields = line.strip().rsplit(":", _COLONS)
        name = name.strip()
        if name and not (name == "background" and _BLACK in fields):
            names[name] = None
    return list(names)
