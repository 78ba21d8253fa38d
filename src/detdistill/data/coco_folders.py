"""Where COCO's annotation files are in a dataset's folder."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from detdistill.core.errors import Problem
from detdistill.core.files import open_regular
from detdistill.data.coco_file import PARTS
from detdistill.data.coco_reader import ANNOTATION_FOLDERS, read_coco
from detdistill.data.folders import files_in, folders_in
from detdistill.data.splits import Split, is_split_name
from detdistill.data.text_files import decoded

LOOKED_FOR = (
    "COCO: *.json with the lists 'images', 'annotations' and 'categories', also in annotations/, train/, valid/, test/"
)

_ROBOFLOW = "_annotations.coco.json"
_JSON = frozenset({".json"})
_BLOCK = 1 << 24  # bytes
_BEFORE = b" \t\r\n\xef\xbb\xbf"  # an object: white space and the byte order mark


def coco_splits(root: Path, rejected: list[Problem]) -> list[Split]:
    """Return the COCO annotation files in a folder; JSON files of other content are `rejected`."""
    splits = [
        coco_split(file)
        for folder in (root, *folders_in(root, ANNOTATION_FOLDERS))
        for file in annotation_files(folder, rejected)
    ]
    for part in folders_in(root):
        if (part / _ROBOFLOW).is_file():  # it has a name of its own, so that its folder may have any
            splits.append(coco_split(part / _ROBOFLOW))
        elif is_split_name(part.name):
            files = [
                file
                for place in (part, *folders_in(part, ANNOTATION_FOLDERS))
                for file in annotation_files(place, rejected)
            ]
            splits += [coco_split(file, part.name if len(files) == 1 else None) for file in files]
    return splits


def annotation_files(folder: Path, rejected: list[Problem]) -> list[Path]:
    """Return the COCO annotation files directly in a folder; JSON files of other content are `rejected`."""
    found = files_in(folder, _JSON)
    # Beside them, COCO's own folder has captions and key points of the same images.
    found = [file for file in found if file.name.startswith("instances_")] or found
    files = []
    for file in found:
        missing = _missing_lists(file)
        if missing:
            what = f"is not COCO: no list {' and '.join(map(repr, missing))}"
            rejected.append(Problem(str(file), what))
        else:
            files.append(file)
    return files


def coco_split(file: Path, name: str | None = None) -> Split:
    """Return the split that an annotation file holds, named by the file, in Roboflow's layout by the folder."""
    if name is None:
        name = file.resolve().parent.name if file.name == _ROBOFLOW else file.stem.removeprefix("instances_")
    return Split(name, "COCO", file, partial(read_coco, file, name))


def _missing_lists(file: Path) -> list[str]:
    """Return the lists of an annotation file that a JSON file does not have, without parsing it."""
    wanted = {part: re.compile(rf'"{part}"\s*:\s*\['.encode()) for part in PARTS}
    try:
        with open_regular(file) as stream:
            before = b""
            while wanted and (block := stream.read(_BLOCK)):
                text = before + block
                if not before and block[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    text = decoded(block + stream.read(), errors="replace").encode()
                if not before and not text.lstrip(_BEFORE).startswith(b"{"):  # for example results, or no text at all
                    break
                wanted = {part: pattern for part, pattern in wanted.items() if not pattern.search(text)}
                before = text[-100:]
    except OSError:
        pass
    return list(wanted)
