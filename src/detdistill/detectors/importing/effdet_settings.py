"""What the weights of an effdet checkpoint cannot tell. Readable without torch: the command line is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from detdistill.detectors.dense.choices import Activation, EfficientDetPreset, Padding


@dataclass(frozen=True, kw_only=True)
class EffdetSettings:
    """Everything that decides an EfficientDet's output and leaves no trace in its weights; None: unknown.

    Attributes:
        preset: Size of EfficientDet: d0 to d7, d7x, or lite0 to lite4; it answers all that follows, and single options
            count more (effdet's name of the model: tf_efficientdet_d0 is d0).
        backbone: timm's name of the backbone (config: backbone_name).
        anchor_scale: Side of a cell's smallest square anchor in strides (config: anchor_scale).
        activation: silu, relu6 or relu (config: act_type; swish is silu).
        padding: Padding where maps are halved, symmetric or same (config: pad_type). Default: same if the convolutions
            before the head's batch norms have a bias, as those of effdet's tf_ models, else symmetric.
        mean: Subtracted from pixels of 0 to 255, red, green, blue (config: 255 times mean; [123.675,116.28,103.53]
            with most backbones).
        std: Pixels are divided by it (config: 255 times std; [58.395,57.12,57.375] with most backbones).
        side: Side of the square images in pixels (config: image_size).
    """

    preset: EfficientDetPreset | None = None
    backbone: str | None = None
    anchor_scale: float | None = None
    activation: Activation | None = None
    padding: Padding | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    side: int | None = None
