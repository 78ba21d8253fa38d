"""Weights from a local file into a backbone, with a report of what fitted and what did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError, listed
from detdistill.detectors.dense.backbones import RESNETS, Backbone
from detdistill.detectors.dense.efficientnet_lite import is_lukemelas, timm_names
from detdistill.detectors.dense.likely_backbone import likely_backbone
from detdistill.detectors.importing.checkpoint_opening import open_checkpoint
from detdistill.detectors.importing.state_dicts import find_state_dict
from detdistill.detectors.importing.state_names import EVERYWHERE, network_names

LEAST_SHARE = 0.5
"""A file that fills less of the backbone's tensors than this is the wrong file."""

LARGEST_MISFIT = 0.1
"""So is one that has more of them in another shape: of a ResNet-50's tensors, three quarters fit a ResNet-18."""

COUNTER = "num_batches_tracked"
"""Batch norm's count of batches: many files lack it, and nothing here reads it."""

SHOWN_MODULES = 5


@dataclass(frozen=True)
class WeightsReport:
    """Which tensors of a backbone a file filled; as a string, one line unless some were not filled.

    Attributes:
        file: where the weights come from.
        prefix: what the file puts before the backbone's names.
        loaded: the backbone's tensors that the file filled.
        missing: the backbone's tensors that the file does not have; unchanged.
        misfits: the backbone's tensors that the file has in another shape or type, with both; unchanged.
        unused: the file's tensors that the backbone has no place for, such as a classifier.
        notes: which weights were taken, if the file holds several networks; one sentence each.
    """

    file: Path
    prefix: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    misfits: Mapping[str, str]
    unused: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Tensors of the backbone."""
        return len(self.loaded) + len(self.missing) + len(self.misfits)

    def __str__(self) -> str:
        under = f" (under {self.prefix!r})" if self.prefix else ""
        unused = f"; {len(self.unused)} others not used ({self._unused_modules()})" if self.unused else ""
        lists = {
            "not in the file, unchanged": self.missing,
            "of another shape or type, unchanged": [f"{name}: {why}" for name, why in self.misfits.items()],
        }
        first = f"{len(self.loaded)} of the backbone's {self.total} tensors loaded from {self.file}{under}{unused}"
        return "".join(
            [
                first,
                *(f"\n  {len(held)} {what}:{listed(held, indent=4)}" for what, held in lists.items() if held),
                *(f"\n  {note}" for note in self.notes),
            ]
        )

    def _unused_modules(self) -> str:
        modules = dict.fromkeys(_module(name.removeprefix(self.prefix)) for name in self.unused)
        more = [f"and {len(modules) - SHOWN_MODULES} more"] if len(modules) > SHOWN_MODULES else []
        return ", ".join([*[*modules][:SHOWN_MODULES], *more])


class BackboneMismatchError(DetdistillError):
    """Weights of another network than the backbone.

    Attributes:
        report: what fits and what does not; nothing was loaded.
    """

    def __init__(self, report: WeightsReport, backbone: str, holds: str) -> None:
        self.report = report
        differing = report.total - len(report.loaded)
        super().__init__(
            f"{report.file} does not fit the backbone {backbone}: {differing} of its {report.total} tensors are not in "
            f"the file or have another shape. The file seems to hold {holds}; nothing was loaded"
        )


class HasBackbone(Protocol):
    """A detector with one of this package's backbones, whose name its architecture knows.

    Attributes:
        backbone: the network.
        architecture: its `backbone` is the name.
    """

    backbone: Backbone
    architecture: Any


def load_backbone_weights(target: HasBackbone | Backbone, file: Path) -> WeightsReport:
    """Fills a backbone from a local file.

    Known are timm's names (torchvision's ResNets have the same) and lukemelas' EfficientNet-Lite, below any prefix
    (`module.`, `backbone.`, `model.encoder.` …). A classifier on top is left out.

    Args:
        target: a detector, or its backbone; filled in place, in its own precision.
        file: `.safetensors`, or what `torch.save` wrote: a state dict, bare or under any of the usual keys. Of a
            student and a teacher the student is taken.

    Returns:
        What was loaded and what was not.

    Raises:
        BackboneMismatchError: the file is of another network: less than half of the backbone's tensors are in it, or
            more than a tenth have another shape. The backbone is unchanged.
        DetdistillError: the file cannot be read, or holds two networks that fit.
    """
    backbone = target if isinstance(target, Backbone) else target.backbone
    own = {name: tensor for name, tensor in backbone.network.state_dict().items() if not name.endswith(COUNTER)}
    whole = read_state_dict(file)
    try:
        chosen = network_names(whole)
    except DetdistillError as error:
        raise DetdistillError(f"{file} {error}") from error
    state = {name: whole[name] for name in chosen.names.values() if not name.endswith(COUNTER)}
    renamed = timm_names(state, backbone.network) if is_lukemelas(state) else {name: name for name in state}
    prefix = _prefix(file, renamed.values(), own)
    places = {_flat(name): name for name in own}
    found = {
        places[place]: name
        for name, plain in renamed.items()
        if plain.startswith(prefix) and (place := _flat(plain.removeprefix(prefix))) in places
    }
    misfits = {name: why for name, source in found.items() if (why := _misfit(state[source], own[name]))}
    report = WeightsReport(
        file=file,
        prefix=prefix,
        loaded=tuple(name for name in own if name in found and name not in misfits),
        missing=tuple(name for name in own if name not in found),
        misfits=misfits,
        unused=tuple(sorted(state.keys() - found.values())),
        notes=chosen.notes,
    )
    holds = likely_backbone(state)
    if len(report.loaded) < LEAST_SHARE * len(own) or len(misfits) > LARGEST_MISFIT * len(own):
        raise BackboneMismatchError(report, _name(target, own), holds)
    if report.unused and holds in RESNETS and holds != likely_backbone(own):
        note = f"the file seems to hold {holds}, a deeper network than {_name(target, own)}"
        report = replace(report, notes=(*report.notes, note))
    with torch.no_grad():
        for name in report.loaded:
            own[name].copy_(state[found[name]])
    return report


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file or of what `torch.save` wrote, by name; no code of the file runs.

    Raises:
        DetdistillError: the file cannot be read, is damaged, or holds no state dict.
    """
    return find_state_dict(open_checkpoint(file), file)


def _name(target: HasBackbone | Backbone, own: Mapping[str, Tensor]) -> str:
    return likely_backbone(own) if isinstance(target, Backbone) else str(target.architecture.backbone)


def _module(name: str) -> str:
    """The module of a tensor, to the first number: `layer3.6` of `layer3.6.conv1.weight`, `fc` of `fc.bias`."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first


def _flat(name: str) -> str:
    """A name without its structure: timm joins the names of modules that it unwraps (`stages.0` to `stages_0`).

    A deformable convolution goes by the name of the plain one whose weights it starts from.
    """
    for segment in EVERYWHERE:
        name = name.replace(f"{segment}.", "")
    return name.replace(".conv2.conv.", ".conv2.").replace(".", "_")


def _prefix(file: Path, names: Collection[str], own: Collection[str]) -> str:
    """What stands before the backbone's names in the file: the prefix under which most of them are found."""
    places = {_flat(name) for name in own}
    counts: Counter[str] = Counter()
    for name in names:
        starts = [0, *(index + 1 for index, letter in enumerate(name) if letter == ".")]
        counts.update(name[:start] for start in starts if _flat(name[start:]) in places)
    best = counts.most_common(2)
    if len(best) == 2 and best[0][1] == best[1][1] >= LEAST_SHARE * len(own):
        raise DetdistillError(
            f"{file} holds two networks that fit this backbone, under {best[0][0]!r} and under {best[1][0]!r}: save "
            "the one to be used on its own"
        )
    return best[0][0] if best else ""


def _misfit(given: Tensor, own: Tensor) -> str | None:
    if given.shape != own.shape:
        return f"{tuple(given.shape)} in the file, {tuple(own.shape)} in the backbone"
    if given.is_floating_point() != own.is_floating_point():
        return f"{given.dtype} in the file, {own.dtype} in the backbone"
    return None
