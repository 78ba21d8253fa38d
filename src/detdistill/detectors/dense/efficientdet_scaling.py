"""The sizes of EfficientDet: Tan et al., CVPR 2020, table 1, with the authors' later changes (google/automl)."""

from __future__ import annotations

from typing import NamedTuple

from detdistill.detectors.dense.choices import EfficientDetPreset, Fusion


class Scaling(NamedTuple):
    """What grows from one preset to the next.

    Attributes:
        side: of the square images, in pixels.
        channels: of the pyramid and the head.
        repeats: cells of the BiFPN.
        depth: convolutions of the head's towers.
        backbone: timm's name.
        fusion: of the BiFPN.
        anchor_scale: side of the smallest square anchor, in strides.
        extra_levels: levels beyond the backbone's.
        mobile: EfficientDet-Lite: ReLU6, and TensorFlow's padding and biases, as its published weights need them.
    """

    side: int
    channels: int
    repeats: int
    depth: int
    backbone: str
    fusion: Fusion = "fast"
    anchor_scale: float = 4.0
    extra_levels: int = 2
    mobile: bool = False


SCALINGS: dict[EfficientDetPreset, Scaling] = {
    "d0": Scaling(512, 64, 3, 3, "efficientnet_b0"),
    "d1": Scaling(640, 88, 4, 3, "efficientnet_b1"),
    "d2": Scaling(768, 112, 5, 3, "efficientnet_b2"),
    "d3": Scaling(896, 160, 6, 4, "efficientnet_b3"),
    "d4": Scaling(1024, 224, 7, 4, "efficientnet_b4"),
    "d5": Scaling(1280, 288, 7, 4, "efficientnet_b5"),
    "d6": Scaling(1280, 384, 8, 5, "efficientnet_b6", fusion="sum"),
    "d7": Scaling(1536, 384, 8, 5, "efficientnet_b6", fusion="sum", anchor_scale=5.0),
    "d7x": Scaling(1536, 384, 8, 5, "efficientnet_b7", fusion="sum", extra_levels=3),
    "lite0": Scaling(320, 64, 3, 3, "tf_efficientnet_lite0", fusion="sum", anchor_scale=3.0, mobile=True),
    "lite1": Scaling(384, 88, 4, 3, "tf_efficientnet_lite1", fusion="sum", anchor_scale=3.0, mobile=True),
    "lite2": Scaling(448, 112, 5, 3, "tf_efficientnet_lite2", fusion="sum", anchor_scale=3.0, mobile=True),
    "lite3": Scaling(512, 160, 6, 4, "tf_efficientnet_lite3", fusion="sum", anchor_scale=4.0, mobile=True),
    "lite3x": Scaling(640, 200, 6, 4, "tf_efficientnet_lite3", fusion="sum", anchor_scale=3.0, mobile=True),
    "lite4": Scaling(640, 224, 7, 4, "tf_efficientnet_lite4", fusion="sum", anchor_scale=4.0, mobile=True),
}
DEFAULT_PRESET: EfficientDetPreset = "d0"
