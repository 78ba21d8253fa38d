"""Weights from a local file into a backbone, with a report of what fitted and what did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detdistill.detectors.backbones import Backbone
from detdistill.detectors.dense import DenseDetector
from detdistill.detectors.efficientnet_lite import is_lukemelas, timm_names
from detdistill.detectors.imported.opening import find_state_dict, open_checkpoint
from detdistill.errors import DetdistillError, listed

LEAST_SHARE = 0.5
"""A file that fills less of the backbone's tensors than this is the wrong file."""

LARGEST_MISFIT = 0.1
"""So is one that has more of them in another shape: of a ResNet-50's tensors, three quarters fit a ResNet-18."""

COUNTER = "num_batches_tracked"
"""Batch norm's count of batches: many files lack it, and nothing here reads it."""


@dataclass(frozen=True)
class WeightsReport:
    """What became of the tensors of a file, and of the backbone.

    Attributes:
        file: where the weights come from.
        prefix: what the file puts before the backbone's names.
        loaded: the backbone's tensors that the file filled.
        missing: the backbone's tensors that the file does not have; they were left as they were.
        misfits: the backbone's tensors that the file has in another shape or type, with both; left as they were.
        unused: the file's tensors that the backbone has no place for, such as a classifier.
    """

    file: Path
    prefix: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    misfits: Mapping[str, str]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.misfits)
        under = f" (under {self.prefix!r})" if self.prefix else ""
        lists = {
            "not in the file, left as they were": self.missing,
            "do not fit, left as they were": [f"{name}: {why}" for name, why in self.misfits.items()],
            "in the file, but not part of the backbone": self.unused,
        }
        return f"{self.file}{under}: {len(self.loaded)} of the backbone's {total} tensors loaded" + "".join(
            f"\n  {len(entries)} {what}:{listed(entries, indent=4)}" for what, entries in lists.items() if entries
        )


def load_backbone_weights(target: DenseDetector | Backbone, file: Path) -> WeightsReport:
    """Fills a backbone from a local file.

    Known are timm's names (torchvision's ResNets have the same) and lukemelas' EfficientNet-Lite, below any prefix
    (`module.`, `backbone.`, `model.encoder.` …). A classifier on top is left out.

    Args:
        target: a detector, or its backbone; filled in place, in its own precision.
        file: `.safetensors`, or what `torch.save` wrote: a state dict, bare or under `state_dict` or `model`.

    Returns:
        What was loaded and what was not.

    Raises:
        DetdistillError: the file cannot be read; it holds two networks that fit; or it is of another network: less than
            half of the backbone's tensors are in it, or more than a tenth have another shape. The backbone is then
            untouched.
    """
    backbone = target.backbone if isinstance(target, DenseDetector) else target
    own = {name: tensor for name, tensor in backbone.network.state_dict().items() if not name.endswith(COUNTER)}
    state = {name: tensor for name, tensor in read_state_dict(file).items() if not name.endswith(COUNTER)}
    network_names = timm_names(state, backbone.network) if is_lukemelas(state) else {name: name for name in state}
    prefix = _prefix(file, network_names.values(), own)
    places = {_flat(name): name for name in own}
    found = {
        places[place]: name
        for name, network_name in network_names.items()
        if network_name.startswith(prefix) and (place := _flat(network_name.removeprefix(prefix))) in places
    }
    misfits = {name: why for name, source in found.items() if (why := _misfit(state[source], own[name]))}
    report = WeightsReport(
        file=file,
        prefix=prefix,
        loaded=tuple(name for name in own if name in found and name not in misfits),
        missing=tuple(name for name in own if name not in found),
        misfits=misfits,
        unused=tuple(sorted(state.keys() - found.values())),
    )
    if len(report.loaded) < LEAST_SHARE * len(own) or len(misfits) > LARGEST_MISFIT * len(own):
        raise DetdistillError(f"these weights are not for this backbone; nothing was loaded.\n{report}")
    with torch.no_grad():
        for name in report.loaded:
            own[name].copy_(state[found[name]])
    return report


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file or of what `torch.save` wrote, by name; no code of the file runs.

    Raises:
        DetdistillError: the file cannot be read, is damaged, or holds no state dict.
    """
    if file.suffix != ".safetensors":
        return find_state_dict(open_checkpoint(file), file)
    try:
        return find_state_dict(load_file(file), file)
    except OSError as error:
        raise DetdistillError(f"{file} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise DetdistillError(f"{file} is not a whole safetensors file ({error}): download or copy it again") from error


def _flat(name: str) -> str:
    """A name without its structure: timm joins the names of modules that it unwraps (`stages.0` to `stages_0`).

    A deformable convolution goes by the name of the plain one whose weights it starts from.
    """
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
