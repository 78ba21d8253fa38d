"""Random numbers for a detector's `forward` and `match`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch

from detdistill.core.seeds import derived_seed


@dataclass(frozen=True)
class Draws:
    """The only source of random numbers inside a detector's `forward` and `match`, in training.

    Gradient accumulation evaluates each part of a batch twice, and processes share a batch: an image must be given
    the same numbers each time, wherever it stands.

    Attributes:
        seed: of the run.
        step: number of the training step.
        images: what identifies each image of the batch in its dataset, such as its position there.
    """

    seed: int
    step: int
    images: tuple[int | str, ...]

    def generator(self, position: int, purpose: str = "") -> torch.Generator:
        """Return a new CPU generator for one image, always in the same state.

        Args:
            position: of the image in the batch, 0 to N - 1.
            purpose: what is drawn, such as `proposals`; different purposes draw independently of one another.
        """
        seed = derived_seed(self.seed, "draws", self.step, self.images[position], purpose)
        return torch.Generator().manual_seed(seed)

    def of_images(self, start: int, stop: int) -> Self:
        """Return the draws of the images from `start` to before `stop`."""
        return replace(self, images=self.images[start:stop])
