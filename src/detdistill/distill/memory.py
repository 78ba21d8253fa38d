"""What a teacher said of images that it has seen, so that it need not be asked again."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from math import ceil

from torch import Tensor

from detdistill.core.image_options import ImageOptions
from detdistill.teachers.teacher import Guidance, TeacherBatch

MEBIBYTE = 2**20


class TeacherMemory:
    """Keeps a teacher's guidance in main memory, image by image, until there is no room for more.

    An image is known by its pixels, its size and its canvas: however images are varied, none gets the output of
    another. A detector in evaluation mode sees each image of a batch by itself, so that an output serves in any batch;
    only the rounding of its sums may depend on the batch it was made in.

    Args:
        room: for outputs, in MiB.
    """

    def __init__(self, room: int) -> None:
        self._left = room * MEBIBYTE
        self._guidance: dict[bytes, Guidance] = {}

    def guidance(self, batch: TeacherBatch, guide: Callable[[TeacherBatch], Guidance]) -> Guidance:
        """The teacher's guidance for a batch.

        Args:
            batch: images on one canvas.
            guide: makes the guidance of some of the images.
        """
        keys = _keys(batch.images, batch.sizes)
        known = {number: self._guidance[key] for number, key in enumerate(keys) if key in self._guidance}
        missing = [number for number in range(len(keys)) if number not in known]
        if missing:
            fresh = guide(batch.of_images(missing))
            for place, number in enumerate(missing):
                known[number] = fresh.of_image(place)
                self._keep(keys[number], known[number])
        device = batch.images.device
        return Guidance.joined([known[number].moved(device) for number in range(len(keys))])

    def _keep(self, key: bytes, guidance: Guidance) -> None:
        if key in self._guidance:  # twice in one batch
            return
        size = guidance.nbytes
        if size > self._left:
            self._left = 0  # what comes later may be smaller, but not worth a copy of it
            return
        self._left -= size
        self._guidance[key] = guidance.moved("cpu", copy=True)


def memory_note(room: int, guidance: Guidance, batch_size: int, num_images: int, options: ImageOptions) -> str:
    """How far a `TeacherMemory` will reach, in plain words.

    Args:
        room: its size, in MiB.
        guidance: the teacher's, of a batch.
        batch_size: images of that batch.
        num_images: in the training set.
        options: how they are varied.
    """
    if options.scale_jitter != (1.0, 1.0) or options.photometric:
        return (
            "teacher memory: of no use here, for the images vary in scale or colour (images.scale_jitter, "
            "images.photometric) and none comes again"
        )
    needed = num_images * guidance.nbytes / batch_size / MEBIBYTE
    mirrored = ""
    if 0 < options.flip < 1:
        needed, mirrored = 2 * needed, ", each as it is and mirrored,"
    return (
        f"teacher memory: {num_images} images{mirrored} need about {ceil(needed)} MiB, in half precision about half of "
        f"that; there is room for {room} MiB"
    )


def _keys(images: Tensor, sizes: Tensor) -> list[bytes]:
    canvas = f"{tuple(images.shape)[1:]}"
    pixels = images.cpu().contiguous().numpy()
    return [
        blake2b(f"{canvas} {size}".encode() + image.tobytes(), digest_size=16).digest()
        for image, size in zip(pixels, sizes.tolist(), strict=True)
    ]
