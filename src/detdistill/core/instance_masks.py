"""The masks of several objects on one plane, each stored only where its object is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.rle import Bitmap, Size, Window, cropped, rle_of_window


@dataclass(frozen=True, eq=False)
class InstanceMasks:
    """Masks of n objects of one image, or of the images of a batch that share a canvas.

    Attributes:
        windows: `(n, 4)` int64, x1 y1 x2 y2 in whole pixels: outside its window a mask is 0. An object without a mask,
            or whose mask has no pixel, has a window of zeros.
        pixels: `(b,)` uint8, 0 or 1: the windows' pixels one object after the other, row by row.
        size: height and width of the plane that the masks lie on, in pixels.
    """

    windows: Tensor
    pixels: Tensor
    size: Size

    @classmethod
    def empty(cls, size: Size, count: int = 0) -> Self:
        """Those of objects without a mask."""
        return cls(torch.zeros(count, 4, dtype=torch.int64), torch.zeros(0, dtype=torch.uint8), size)

    @classmethod
    def of_crops(cls, crops: Iterable[tuple[Bitmap, Window]], size: Size) -> Self:
        """Store parts of masks `(h, w)` of 0 and 1 with their windows, as `rle.cropped` returns them."""
        pairs = list(crops)
        if not pairs:
            return cls.empty(size)
        pixels = np.concatenate([np.zeros(0, np.uint8), *(crop.reshape(-1) for crop, _ in pairs)])
        windows = np.array([window for _, window in pairs], dtype=np.int64).reshape(-1, 4)
        return cls(torch.from_numpy(windows), torch.from_numpy(pixels), size)

    @classmethod
    def of_rles(cls, texts: Iterable[str], size: Size) -> Self:
        """Decode RLEs of `size`; an empty text is an object without a mask.

        Raises:
            DataError: An RLE does not decode to this size.
        """
        return cls.of_crops((cropped(text, size) for text in texts), size)

    @classmethod
    def of_bitmaps(cls, bitmaps: Tensor) -> Self:
        """Store masks `(n, H, W)`, in which every value but 0 is the object."""
        size = int(bitmaps.shape[1]), int(bitmaps.shape[2])
        stored = cls.of_crops((trimmed(bitmap) for bitmap in (bitmaps != 0).cpu().numpy()), size)
        return stored.to(bitmaps.device)

    @classmethod
    def joined(cls, parts: Sequence[Self], size: Size) -> Self:
        """Join the objects of several parts, on a plane of `size` that covers each of theirs."""
        if not parts:
            return cls.empty(size)
        windows = torch.cat([part.windows for part in parts])
        return cls(windows, torch.cat([part.pixels for part in parts]), size)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def present(self) -> Tensor:
        """`(n,)` bool, which objects have a mask."""
        return self.windows[:, 2] > self.windows[:, 0]

    def crops(self) -> list[Tensor]:
        """Return the mask inside each window, `(h, w)` uint8, as views of `pixels`."""
        x1, y1, x2, y2 = self.windows.cpu().unbind(dim=1)
        widths, heights = (x2 - x1).tolist(), (y2 - y1).tolist()
        lengths = [width * height for width, height in zip(widths, heights, strict=True)]
        parts = torch.split(self.pixels, lengths) if lengths else ()
        return [part.reshape(height, width) for part, height, width in zip(parts, heights, widths, strict=True)]

    def bitmaps(self) -> Tensor:
        """Return the whole masks, `(n, H, W)` uint8 of 0 and 1."""
        whole = self.pixels.new_zeros(len(self), *self.size)
        for bitmap, crop, (x1, y1, x2, y2) in zip(whole, self.crops(), self.windows.tolist(), strict=True):
            bitmap[y1:y2, x1:x2] = crop
        return whole

    def rles(self) -> list[str]:
        """Return the RLE of each mask; that of an object without a mask has no pixel."""
        crops = (crop.cpu().numpy() for crop in self.crops())
        return [
            rle_of_window(crop, (x1, y1, x2, y2), self.size)
            for crop, (x1, y1, x2, y2) in zip(crops, self.windows.tolist(), strict=True)
        ]

    def take(self, chosen: Tensor) -> Self:
        """Return some of the masks: `chosen` is a bool mask `(n,)`, or indices in the wanted order."""
        chosen = chosen.to(self.windows.device)
        if chosen.dtype == torch.bool:
            if chosen.all():
                return self
            chosen = chosen.nonzero().squeeze(1)
        crops = self.crops()
        parts = [self.pixels[:0], *(crops[index].reshape(-1) for index in chosen.tolist())]
        return replace(self, windows=self.windows[chosen], pixels=torch.cat(parts))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same masks on another device."""
        windows = self.windows.to(device, non_blocking=non_blocking)
        return replace(self, windows=windows, pixels=self.pixels.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same masks in page-locked memory."""
        return replace(self, windows=self.windows.pin_memory(), pixels=self.pixels.pin_memory())


def trimmed(bitmap: NDArray[np.bool_] | Bitmap, corner: tuple[int, int] = (0, 0)) -> tuple[Bitmap, Window]:
    """Return the smallest part of a mask with all pixels of the object, and where it lies.

    Args:
        bitmap: `(h, w)`, in which every value but 0 is the object.
        corner: x and y of its upper left pixel.

    Returns:
        The part, `(h, w)` of 0 and 1, and its window; without any pixel an empty part and a window of zeros.
    """
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if not len(rows):
        return np.zeros((0, 0), np.uint8), (0, 0, 0, 0)
    x1, y1, x2, y2 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    part = np.ascontiguousarray(bitmap[y1:y2, x1:x2] != 0).astype(np.uint8)
    return part, (x1 + corner[0], y1 + corner[1], x2 + corner[0], y2 + corner[1])


def sampled(
    masks: InstanceMasks, rows: NDArray[np.int64], columns: NDArray[np.int64], *, flips: bool = False
) -> InstanceMasks:
    """Return resized parts of masks in one step: each pixel is one of the original's.

    Args:
        masks: On the CPU.
        rows: `(H,)` the original's row of each row of the part, ascending.
        columns: `(W,)` the same of its columns, ascending before it is mirrored.
        flips: Mirror the part horizontally.

    Returns:
        The masks on a plane of H x W pixels.
    """
    size = len(rows), len(columns)
    crops = []
    for crop, (x1, y1, x2, y2) in zip(masks.crops(), masks.windows.tolist(), strict=True):
        top, bottom = np.searchsorted(rows, (y1, y2)).tolist()
        left, right = np.searchsorted(columns, (x1, x2)).tolist()
        part = crop.numpy()[rows[top:bottom] - y1][:, columns[left:right] - x1]
        if flips:
            part, left = part[:, ::-1], size[1] - right
        crops.append(trimmed(part, (left, top)))
    return InstanceMasks.of_crops(crops, size)
