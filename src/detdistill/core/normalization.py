"""Pixel values as a backbone expects them. Batches stay uint8 until here, so two detectors can differ in it."""

from __future__ import annotations

import torch
from torch import Tensor

from detdistill.core.bounds import Number, PositiveFactor
from detdistill.core.settings import settings


@settings
class Normalization:
    """Subtracts a mean and divides by a deviation, per channel, in units of 0 to 255.

    Raises:
        SettingsError: A deviation is not above 0.
    """

    mean: tuple[Number, Number, Number]
    """Mean of the red, green and blue channel."""
    std: tuple[PositiveFactor, PositiveFactor, PositiveFactor]
    """Standard deviation of the red, green and blue channel."""
    bgr: bool = False
    """The backbone was trained on blue, green, red: the channels are turned round after normalisation, while `mean` and
    `std` stay in the order red, green, blue."""

    def __call__(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Normalises a padded batch; what lies beyond an image's true size becomes 0, as in mmdetection.

        Args:
            images: `(N, 3, H, W)` RGB, 0 to 255, uint8 or float.
            sizes: `(N, 2)` true height and width of each image, in pixels.

        Returns:
            `(N, 3, H, W)` float32.
        """
        values = images.float()
        mean, std = (values.new_tensor(channels)[:, None, None] for channels in (self.mean, self.std))
        values = (values - mean) / std
        if self.bgr:
            values = values.flip(1)
        height, width = images.shape[-2:]
        rows = torch.arange(height, device=images.device) >= sizes[:, :1]
        columns = torch.arange(width, device=images.device) >= sizes[:, 1:]
        padding = rows[:, :, None] | columns[:, None, :]
        return values.masked_fill(padding[:, None], 0.0)


IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""torchvision's, timm's and mmdetection's normalisation for backbones trained on ImageNet."""

EFFICIENTNET_LITE = Normalization(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
"""That of EfficientNet-Lite's authors, for the weights that `efficientnet_lite0_file` names."""
