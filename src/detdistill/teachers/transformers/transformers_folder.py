"""The folder of a transformers model: where it is, and what its configuration promises."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detdistill.core.allocation import available_memory
from detdistill.core.errors import DetdistillError, first_line, listed
from detdistill.core.files import open_regular
from detdistill.core.json_files import read_object
from detdistill.teachers.transformers.transformers_families import FAMILIES, Family

HUB = "hf://"
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
COPY_AGAIN = "copy the folder again"
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"

_NO_NAME = re.compile(r"LABEL_\d+")
"""The names that transformers makes up for classes that nobody named."""
_UNUSED = "n/a"
"""The name of slots that stand for no class, such as those of COCO's 91 category ids; its case does not matter."""


@dataclass(frozen=True)
class Folder:
    """A folder that `save_pretrained` wrote, checked as far as that goes without its weights.

    Attributes:
        path: the folder.
        family: of the detector.
        slots: number of classes that the model predicts, unused ones included.
        classes: names of the used ones.
        columns: the slot of each class.
        weights: the files of the weights.
    """

    path: Path
    family: Family
    slots: int
    classes: tuple[str, ...]
    columns: tuple[int, ...]
    weights: tuple[Path, ...]

    def sha256(self) -> str:
        """A hash of the weights and the two configurations: of all that decides the predictions."""
        digest = hashlib.sha256()
        for file in (*self.weights, self.path / CONFIG, self.path / PREPROCESSOR):
            with open_regular(file) as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()


def is_transformers(source: str) -> bool:
    """Whether a source names a transformers model: `hf://owner/name`, or a folder with a configuration of one."""
    return source.startswith(HUB) or (Path(source).expanduser() / CONFIG).exists()


def local_folder(source: str) -> Path:
    """Return the folder that a source names; one of a hub is downloaded once, and found again afterwards.

    Raises:
        DetdistillError: it cannot be downloaded.
    """
    if not source.startswith(HUB):
        return Path(source).expanduser()
    name = source.removeprefix(HUB)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise DetdistillError(f"teacher {source}: expected {HUB}owner/name, such as {HUB}PekingU/rtdetr_r18vd")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise missing_extra(source) from error
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise DetdistillError(
            f"teacher {source}: cannot be downloaded: {first_line(error)}; check the name and the network, or download "
            "it elsewhere and pass its folder"
        ) from error


def missing_extra(source: str) -> DetdistillError:
    """The error of a machine without transformers."""
    return DetdistillError(f"teacher {source}: it needs transformers: pip install 'detdistill[transformers]'")


def read_folder(path: Path) -> Folder:
    """Read and check the configuration of a folder.

    Raises:
        DetdistillError: a file is missing or damaged, the model is no detector of a known family, its classes have no
            names, or it is larger than the memory that is free.
    """
    config = read_object(path / CONFIG, COPY_AGAIN)
    name = config.get("model_type")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise DetdistillError(
            f"{path / CONFIG}: model_type: {name!r}; expected a detector of transformers: {', '.join(FAMILIES)}"
        )
    preprocessor = path / PREPROCESSOR
    if not preprocessor.is_file():
        raise DetdistillError(
            f"{preprocessor} is missing; expected the size and normalization of the teacher's images. Copy it from "
            "where the model comes from, or save it from the image processor that the model was trained with: "
            "processor.save_pretrained(folder)"
        )
    read_object(preprocessor, COPY_AGAIN)
    names = _names(path / CONFIG, config)
    columns = tuple(slot for slot, name in enumerate(names) if name.strip().lower() != _UNUSED)
    classes = tuple(names[slot] for slot in columns)
    twice = sorted({name for name in classes if classes.count(name) > 1})
    if not classes or twice:
        found = f"several classes are named {twice[0]!r}" if twice else "no class"
        raise DetdistillError(
            f"{path / CONFIG}: id2label: {found}; expected a different name for each class, and N/A for slots that "
            "stand for none"
        )
    return Folder(path, family, len(names), classes, columns, _weights(path))


def _names(file: Path, config: Mapping[str, Any]) -> list[str]:
    given = config.get("id2label")
    expected = 'expected a name for each class, such as {"0": "cat", "1": "dog"}, in the order of the model\'s outputs'
    if not isinstance(given, dict) or not given or not all(isinstance(name, str) for name in given.values()):
        raise DetdistillError(f"{file}: id2label: {'missing' if given is None else 'no names'}; {expected}")
    if set(given) != {str(slot) for slot in range(len(given))}:
        raise DetdistillError(
            f"{file}: id2label: its ids are {', '.join(list(given)[:5])} …; expected 0 to {len(given) - 1} without "
            "gaps, with N/A for slots that stand for no class"
        )
    names = [given[str(slot)] for slot in range(len(given))]
    made_up = [name for name in names if _NO_NAME.fullmatch(name) or not name.strip()]
    if made_up:
        raise DetdistillError(
            f"{file}: id2label: {', '.join(map(repr, made_up[:3]))} are no class names; {expected}. Edit the file"
        )
    return names


def _weights(path: Path) -> tuple[Path, ...]:
    if (path / SHARDS).is_file():
        index = read_object(path / SHARDS, COPY_AGAIN).get("weight_map")
        names = sorted({str(name) for name in index.values()}) if isinstance(index, dict) else []
        files = tuple(path / Path(name).name for name in names)
    else:
        files = (path / WEIGHTS,)
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise DetdistillError(
            f"{path}: weights are missing; expected {WEIGHTS}, as model.save_pretrained(folder) writes it"
            f"{listed(missing)}"
        )
    size, free = sum(file.stat().st_size for file in files), available_memory()
    if free is not None and size > free:
        raise DetdistillError(
            f"{files[0]}: the weights take {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free; use "
            "a smaller teacher or a machine with more memory, or teach with stored detections"
        )
    return files
