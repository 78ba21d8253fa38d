"""torchvision's Faster and Mask R-CNN from a weights file: which network, which classes, which batch norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.choices import RcnnName
from detdistill.detectors.importing.torchvision_weights import (
    BACKGROUND,
    EMPTY,
    column_names,
    frozen_eps,
    load_network,
    plain_state,
)
from detdistill.detectors.importing.weights_file import read_weights
from detdistill.detectors.two_stage.torchvision_rcnn import TorchvisionRcnn
from detdistill.detectors.two_stage.two_stage_architecture import TorchvisionRcnnArchitecture

SCORES = "roi_heads.box_predictor.cls_score"
MASKS = "roi_heads.mask_predictor.mask_fcn_logits.weight"
KEYPOINTS = "roi_heads.keypoint_predictor.kps_score_lowres.weight"
PUBLISHED = tuple(
    weights.COCO_V1.url.rpartition("-")[2].removesuffix(".pth")
    for weights in (FasterRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights)
)
"""What the SHA-256 of torchvision's published files starts with whose frozen batch norms add nothing to variances."""
MOBILE: tuple[RcnnName, ...] = ("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn")


def is_torchvision_rcnn(state: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of one of torchvision's two-stage detectors."""
    return f"{SCORES}.weight" in state


def import_torchvision_rcnn(
    source: Path | Mapping[str, Tensor],
    classes: Sequence[str] | None = None,
    *,
    network: RcnnName | None = None,
    frozen_norm_eps: float | None = None,
    number_classes: bool = False,
) -> TorchvisionRcnn:
    """Make a detector of the weights of a two-stage model of torchvision.

    The network, the number of its class columns and the kind of its batch norms are read off the weights. Column 0 and
    the columns of empty classes count as background, as in torchvision's softmax; label c is `classes[c]`.

    Args:
        source: a file (`.pth` or `.safetensors`), or a state dict. Prefixes of wrappers are removed, see
            `network_names`.
        classes: class names in the order of the labels: one for each column, or one less, as column 0 is the
            background. Columns named `N/A` are empty. None for COCO's 91 columns.
        network: torchvision's name of the model; needed for MobileNetV3, of which two models have the same weights'
            names and differ in the number of proposals and the image size.
        frozen_norm_eps: what frozen batch norms add to variances, see `import_torchvision`.
        number_classes: call all columns but the background `class_1`, `class_2`, … if no names are given.

    Raises:
        DetdistillError: the file cannot be read; the weights are not those of one of these networks, or of another one
            than `network`; the class names do not fit; or `frozen_norm_eps` is needed, or given for batch norms that
            are not frozen.
    """
    where = str(source) if isinstance(source, Path) else "the state dict"
    state = read_weights(source).state if isinstance(source, Path) else plain_state(source)
    if KEYPOINTS in state:
        raise DetdistillError(f"{where} holds torchvision's keypointrcnn_resnet50_fpn; keypoints are not supported")
    name = _network(state, network, where)
    weight, bias = state[f"{SCORES}.weight"], state.get(f"{SCORES}.bias")
    if weight.ndim != 2 or bias is None or bias.shape != weight.shape[:1] or len(weight) < 2:
        raise DetdistillError(
            f"{where}: {SCORES} has a weight {tuple(weight.shape)}; expected a row for the background and one for each "
            "class, and a bias as long"
        )
    columns = len(weight)
    if classes is None and number_classes:
        classes = [f"class_{column}" for column in range(1, columns)]
    names = column_names(columns, classes, where)
    if names[0] not in EMPTY:
        raise DetdistillError(
            f"{where}: column 0 of a two-stage model is the background, not {names[0]!r}: give {columns - 1} class "
            f"names, or {columns} with {BACKGROUND} first"
        )
    empty = tuple(column for column, label in enumerate(names) if column and label in EMPTY)
    eps = frozen_eps(name, state, source, frozen_norm_eps, PUBLISHED)
    kept = [label for label in names if label not in EMPTY]
    detector = TorchvisionRcnn(TorchvisionRcnnArchitecture(name, eps, empty), kept)
    load_network(detector.network, name, state, where)
    return detector.eval()


def _network(state: Mapping[str, Tensor], given: RcnnName | None, where: str) -> RcnnName:
    """The network that the weights are of."""
    is_second = "roi_heads.box_head.0.0.weight" in state
    likely: tuple[RcnnName, ...]
    if "backbone.body.conv1.weight" not in state:
        likely = MOBILE
    elif MASKS in state:
        likely = ("maskrcnn_resnet50_fpn_v2",) if is_second else ("maskrcnn_resnet50_fpn",)
    else:
        likely = ("fasterrcnn_resnet50_fpn_v2",) if is_second else ("fasterrcnn_resnet50_fpn",)
    if given is None and len(likely) == 1:
        return likely[0]
    if given is None or given not in likely:
        which = "no network was given" if given is None else f"the network {given} was given"
        raise DetdistillError(
            f"{where} holds weights of {' or '.join(likely)}, and {which}: give one of these (command line: --network; "
            "Python: network)"
        )
    return given
