"""torchvision's RetinaNet and FCOS from a weights file: which network, which classes, which batch norms."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

from detdistill.core.errors import DetdistillError, listed
from detdistill.core.files import open_regular
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.backbone_weights import COUNTER
from detdistill.detectors.dense.choices import NetworkName
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.importing.mmdet_keys import TORCHVISION_LOGITS
from detdistill.detectors.importing.state_names import network_names
from detdistill.detectors.importing.weights_file import read_weights

BACKGROUND = "__background__"
EMPTY = (BACKGROUND, "N/A")
"""Class columns that stand for nothing: torchvision's label 0, and the gaps in COCO's category ids."""

COCO_CATEGORIES: tuple[str, ...] = tuple(RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
PUBLISHED_RETINANET: str = RetinaNet_ResNet50_FPN_Weights.COCO_V1.url.rpartition("-")[2].removesuffix(".pth")
"""What the SHA-256 of torchvision's published file starts with."""

FROZEN_EPS = 1e-5
"""Of torchvision's `FrozenBatchNorm2d`, unless a model overwrites it."""


def import_torchvision(
    source: Path | Mapping[str, Tensor],
    classes: Sequence[str] | None = None,
    *,
    frozen_norm_eps: float | None = None,
    number_classes: bool = False,
) -> TorchvisionDetector:
    """Makes a detector of the weights of a torchvision model.

    The network, the number of its class columns and the kind of its batch norms are read off the weights. In
    torchvision label 0 is the background, a column that no object is ever labelled with; the columns of empty classes
    are dropped, so that label c is `classes[c]`.

    Args:
        source: a file (`.pth` or `.safetensors`), or a state dict. Prefixes of wrappers are removed, see
            `network_names`.
        classes: class names in the order of the labels: one for each column, or one less if column 0 is the
            background. Columns named `__background__` or `N/A` are dropped. None for COCO's 91 columns.
        frozen_norm_eps: what frozen batch norms add to variances. Weights do not tell, and torchvision runs its
            published RetinaNet with 0.0 but a RetinaNet that was trained from an ImageNet backbone with 1e-5. None is
            enough for the published file, for FCOS, and wherever batch norms are not frozen.
        number_classes: call all columns `class_0`, `class_1`, … if no names are given; `class_0` is then the
            background, unless the training used label 0.

    Raises:
        DetdistillError: the file cannot be read; the weights are not those of one of these networks; the class names
            do not fit; or `frozen_norm_eps` is needed, or given for batch norms that are not frozen.
    """
    where = str(source) if isinstance(source, Path) else "the state dict"
    state = read_weights(source).state if isinstance(source, Path) else plain_state(source)
    network = _network(state, where)
    anchors = 1 if network == "fcos_resnet50_fpn" else 9
    weight, bias = state[f"{TORCHVISION_LOGITS}.weight"], state[f"{TORCHVISION_LOGITS}.bias"]
    if weight.ndim != 4 or bias.shape != weight.shape[:1] or len(bias) % anchors:
        raise DetdistillError(
            f"{where}: {TORCHVISION_LOGITS} has a weight {tuple(weight.shape)} and a bias {tuple(bias.shape)}; "
            f"a {network} with torchvision's own {anchors} anchors per cell has a multiple of {anchors} channels"
        )
    columns = len(bias) // anchors
    if classes is None and number_classes:
        classes = [f"class_{column}" for column in range(columns)]
    names = column_names(columns, classes, where)
    kept = [column for column, name in enumerate(names) if name not in EMPTY]
    channels = [anchor * columns + column for anchor in range(anchors) for column in kept]
    state |= {f"{TORCHVISION_LOGITS}.weight": weight[channels], f"{TORCHVISION_LOGITS}.bias": bias[channels]}
    eps = frozen_eps(network, state, source, frozen_norm_eps, (PUBLISHED_RETINANET,))
    detector = TorchvisionDetector.from_architecture(
        TorchvisionArchitecture(network, eps), [names[column] for column in kept]
    )
    load_network(detector.network, network, state, where)
    return detector.eval()


def plain_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's tensors without the prefixes of wrappers; raises `DetdistillError` if there are several networks."""
    try:
        names = network_names(state).names
    except DetdistillError as error:
        raise DetdistillError(f"the state dict {error}") from error
    return {name: state[key] for name, key in names.items()}


def _network(state: Mapping[str, Tensor], where: str) -> NetworkName:
    if (
        not {f"{TORCHVISION_LOGITS}.weight", f"{TORCHVISION_LOGITS}.bias", "head.regression_head.bbox_reg.weight"}
        <= state.keys()
    ):
        raise DetdistillError(
            f"{where} holds none of torchvision's retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2 and "
            f"fcos_resnet50_fpn: their {TORCHVISION_LOGITS} is not in it; found "
            f"{', '.join(list(state)[:3]) or 'nothing'} …"
        )
    if "head.regression_head.bbox_ctrness.weight" in state:
        return "fcos_resnet50_fpn"
    grouped = "head.classification_head.conv.0.1.weight" in state
    return "retinanet_resnet50_fpn_v2" if grouped else "retinanet_resnet50_fpn"


def column_names(columns: int, classes: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """The name of each class column; COCO's if none are given. Raises `DetdistillError` if the numbers differ."""
    names = tuple(COCO_CATEGORIES if classes is None else classes)
    if classes is not None and len(names) == columns - 1:
        names = (BACKGROUND, *names)
    if len(names) != columns:
        given = "none are given" if classes is None else f"{len(names)} are given"
        raise DetdistillError(
            f"{where} has {columns} class columns, but of class names {given}: give {columns}, or {columns - 1} if "
            'column 0 is the background, with --classes "[cat,dog]" (Python: classes); or number them with '
            "--number-classes (Python: number_classes=True)"
        )
    if set(names) <= set(EMPTY):
        raise DetdistillError(f"{where}: none of the {columns} class columns stands for a class")
    return names


def frozen_eps(
    network: str,
    state: Mapping[str, Tensor],
    source: Path | Mapping[str, Tensor],
    given: float | None,
    published: Collection[str],
) -> float | None:
    """What frozen batch norms add to variances; None where batch norms learn.

    Args:
        network: torchvision's name.
        state: the weights.
        source: where they come from.
        given: what the caller says.
        published: what the SHA-256 of torchvision's own files start with that add nothing.

    Raises:
        DetdistillError: it is not known, or given for batch norms that learn.
    """
    # Only batch norms that learn count their batches.
    counted = any(key.startswith("backbone.body.") and key.endswith(COUNTER) for key in state)
    if network.endswith("_v2") or counted:
        if given is not None:
            raise DetdistillError(
                f"these weights of {network} have no frozen batch norms: leave frozen_norm_eps out (command line: "
                "--frozen-norm-eps)"
            )
        return None
    if given is not None:
        return given
    if network == "fcos_resnet50_fpn" or "mobilenet" in network:
        return FROZEN_EPS
    if isinstance(source, Path):
        with open_regular(source) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest.startswith(tuple(published)):
            return 0.0
    raise DetdistillError(
        f"these weights of {network} have frozen batch norms and are not torchvision's published file: give "
        "frozen_norm_eps=0.0 if they were made from its published COCO weights, 1e-5 if from an ImageNet backbone "
        "(command line: --frozen-norm-eps 0 or --frozen-norm-eps 1e-5)"
    )


def load_network(network: nn.Module, name: str, state: Mapping[str, Tensor], where: str) -> None:
    """Load the weights into torchvision's model of this name.

    Raises:
        DetdistillError: tensors are missing, left over, or of another shape or type; all are listed.
    """
    problems = [
        f"{name}: {tensor.dtype} instead of floating point"
        for name, tensor in state.items()
        if not tensor.is_floating_point() and not name.endswith(COUNTER)
    ]
    try:
        incompatible = network.load_state_dict(state, strict=False)
        problems += [f"{name}: missing" for name in incompatible.missing_keys]
        problems += [f"{name}: not part of the network" for name in incompatible.unexpected_keys]
    except RuntimeError as error:
        problems += [line.strip() for line in str(error).splitlines()[1:]]
    if problems:
        raise DetdistillError(f"{where} does not fit torchvision's {name}:{listed(problems)}")
