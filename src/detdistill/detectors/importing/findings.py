"""What an import finds out about a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal[
    "weights",
    "config",
    "mmdetection's default",
    "torchvision's default",
    "effdet's default",
    "preset",
    "given",
    "meta",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is known of an imported detector.

    Attributes:
        what: a setting, or a part of the detector.
        value: in words.
        source: `mmdetection's default` where the configuration is silent, `given` by the caller, `preset` where the
            caller gave effdet's name of the model.
    """

    what: str
    value: str
    source: Source
