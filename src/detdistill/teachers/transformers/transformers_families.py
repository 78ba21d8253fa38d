"""What the detectors of transformers have in common, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from detdistill.core.output import Activation

Maps = Literal["none", "pyramid", "backbone", "tokens"]
"""Where a family's feature maps are among its outputs.

`pyramid`: `encoder_last_hidden_state` is a list of maps. `backbone`: `backbone_features` is one map. `tokens`:
`encoder_last_hidden_state` is `(N, cells, D)`, level by level, row by row.
"""


@dataclass(frozen=True)
class Family:
    """A kind of detector.

    Attributes:
        name: `model_type` in its configuration.
        activation: of its class logits; softmax has "no object" last.
        maps: where its feature maps are.
        has_grid: its encoder scores every cell of its maps (`enc_outputs_class`). Such models ignore `pixel_mask`:
            padding is image to them.
        keeps_states: maps are returned only together with all hidden states.
    """

    name: str
    activation: Activation = "sigmoid"
    maps: Maps = "none"
    has_grid: bool = False
    keeps_states: bool = False


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("rt_detr", maps="pyramid", has_grid=True),
        Family("rt_detr_v2", maps="pyramid", has_grid=True),
        Family("d_fine", maps="pyramid", has_grid=True),
        Family("deimv2", maps="pyramid", has_grid=True),
        Family("rf_detr", maps="backbone"),
        Family("lw_detr"),
        Family("deformable_detr", maps="tokens"),
        Family("conditional_detr", maps="tokens"),
        Family("dab-detr", maps="tokens", keeps_states=True),
        Family("detr", activation="softmax", maps="tokens"),
        Family("table-transformer", activation="softmax", maps="tokens"),
        Family("yolos", activation="softmax"),
    )
}
