"""What a teacher said of images that it has seen, so that it need not be asked again."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from math import ceil

import torch
from torch import Tensor

from detdistill.core.image_options import ImageOptions
from detdistill.core.output import Output, combined

MEBIBYTE = 2**20


class TeacherMemory:
    """Keeps a teacher's outputs in main memory, image by image, until there is no room for more.

    An image is known by its pixels, its size and its canvas: however images are varied, none gets the output of
    another. A detector in evaluation mode sees each image of a batch by itself, so that an output serves in any batch;
    only the rounding of its sums may depend on the batch it was made in.

    Args:
        room: for outputs, in MiB.
    """

    def __init__(self, room: int) -> None:
        self._left = room * MEBIBYTE
        self._outputs: dict[bytes, Output] = {}

    def output(self, images: Tensor, sizes: Tensor, teach: Callable[[Tensor, Tensor], Output]) -> Output:
        """The teacher's output for a batch.

        Args:
            images: `(N, 3, H, W)` on one canvas.
            sizes: `(N, 2)` their true heights and widths.
            teach: makes the output of some of the images, given with their sizes.
        """
        keys = _keys(images, sizes)
        outputs = {number: self._outputs[key] for number, key in enumerate(keys) if key in self._outputs}
        missing = [number for number in range(len(keys)) if number not in outputs]
        if missing:
            fresh = teach(images[missing], sizes[missing])
            for place, number in enumerate(missing):
                outputs[number] = _of_image(fresh, place)
                self._keep(keys[number], outputs[number])
        parts = [outputs[number] for number in range(len(keys))]
        return combined(parts, lambda tensors: torch.cat([tensor.to(images.device) for tensor in tensors]))

    def _keep(self, key: bytes, output: Output) -> None:
        if key in self._outputs:  # twice in one batch
            return
        size = _size(output)
        if size > self._left:
            self._left = 0  # what comes later may be smaller, but not worth a copy of it
            return
        self._left -= size
        self._outputs[key] = combined([output], lambda tensors: tensors[0].to("cpu", copy=True))


def memory_note(room: int, output: Output, num_images: int, options: ImageOptions) -> str:
    """How far a `TeacherMemory` will reach, in plain words.

    Args:
        room: its size, in MiB.
        output: the teacher's, of a batch.
        num_images: in the training set.
        options: how they are varied.
    """
    if options.scale_jitter != (1.0, 1.0) or options.photometric:
        return (
            "teacher memory: of no use here, for the images vary in scale or colour (images.scale_jitter, "
            "images.photometric) and none comes again"
        )
    needed = num_images * _size(output) / output.predictions.logits.shape[0] / MEBIBYTE
    mirrored = ""
    if 0 < options.flip < 1:
        needed, mirrored = 2 * needed, ", each as it is and mirrored,"
    return (
        f"teacher memory: {num_images} images{mirrored} need about {ceil(needed)} MiB, in half precision about half of "
        f"that; there is room for {room} MiB"
    )


def _size(output: Output) -> int:
    sizes = []

    def measured(tensors: list[Tensor]) -> Tensor:
        sizes.append(tensors[0].nbytes)
        return tensors[0]

    combined([output], measured)
    return sum(sizes)


def _keys(images: Tensor, sizes: Tensor) -> list[bytes]:
    canvas = f"{tuple(images.shape)[1:]}"
    pixels = images.cpu().contiguous().numpy()
    return [
        blake2b(f"{canvas} {size}".encode() + image.tobytes(), digest_size=16).digest()
        for image, size in zip(pixels, sizes.tolist(), strict=True)
    ]


def _of_image(output: Output, number: int) -> Output:
    return combined([output], lambda tensors: tensors[0][number : number + 1])
