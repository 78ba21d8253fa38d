"""How large the numbers of settings may be: no file asks for more memory or time than a detector needs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

LARGEST_SIDE = 8_192
"""Pixels of an image's side. Published detectors read up to about 2,000; a canvas of 8,192 x 8,192 takes 200 MB, and
its float32 copy 800 MB, however small the image is."""
MOST_CHANNELS = 16_384
"""Channels of a feature map. ResNet's last stage has 2,048."""
MOST_LAYERS = 100
"""Layers of one kind after each other. Published heads have 4."""
LARGEST_STRIDE = 512
"""Pixels of an image for a cell of a feature map. RetinaNet's coarsest level has 128."""
MOST = 1_000_000
"""Steps, epochs, images, boxes or mebibytes: more is a slip of the keyboard."""
LARGEST_SEED = 2**32 - 1
"""NumPy's largest seed."""

Side = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]
Channels = Annotated[int, Field(gt=0, le=MOST_CHANNELS)]
Layers = Annotated[int, Field(ge=0, le=MOST_LAYERS)]
Stride = Annotated[int, Field(gt=0, le=LARGEST_STRIDE)]
Count = Annotated[int, Field(gt=0, le=MOST)]
CountOrNone = Annotated[int, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Probability = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=0, le=MOST)]
PositiveFactor = Annotated[float, Field(gt=0, le=MOST)]
Number = Annotated[float, Field(ge=-MOST, le=MOST)]
