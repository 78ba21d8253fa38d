"""What a detector or a teacher can give to distillation."""

from __future__ import annotations

from typing import Literal

Offer = Literal["features", "grid", "anchors", "boxes", "opinions", "distributions", "head", "rois", "masks", "queries"]
"""
* `features`: maps with strides.
* `grid`: class scores and boxes of dense candidates, on the cells of the maps.
* `anchors`: the dense candidates are boxes of several cells, not points.
* `boxes`: a set of boxes with class probabilities.
* `opinions`: class scores of any given boxes.
* `distributions`: each side of a box as a distribution over bins.
* `head`: a convolutional head that runs on given features.
* `rois`: a second stage that runs on given proposals.
* `masks`: instance masks.
* `queries`: predictions of learned queries.
"""
BOX_OFFERS: frozenset[Offer] = frozenset({"boxes", "opinions"})
"""What every teacher gives that predicts boxes."""
DENSE_OFFERS: frozenset[Offer] = frozenset({"features", "grid", "boxes", "opinions"})
"""What every detector with one stage on a grid gives."""
