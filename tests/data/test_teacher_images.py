"""One variation of an image is rendered for student and teacher: the same place of the original at the same place."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from detdistill.core.image_options import ImageOptions, scaled
from detdistill.data.loading import Batch, training_loader
from detdistill.data.opening import open_dataset
from detdistill.data.teacher_inputs import TeacherInputs
from detdistill.data.transforms import Sample, TrainingTransform
from support.small_runs import write_boxes

HEIGHT, WIDTH = 96, 120
STEP = 2
"""Brightness levels for each pixel of the original: positions are known to a quarter of a pixel."""
OPTIONS = st.builds(
    ImageOptions,
    short_side=st.integers(40, 100),
    long_side=st.integers(100, 140),
    letterbox=st.none() | st.integers(40, 120),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    scale_jitter=st.tuples(st.sampled_from([0.6, 1.0]), st.sampled_from([1.0, 1.8])),
)
RATIOS = st.sampled_from([Fraction(1, 2), Fraction(3, 4), Fraction(1), Fraction(5, 4), Fraction(2), Fraction(3)])
BOX = torch.tensor([[30.0, 24.0, 84.0, 72.0]])


def sample(image: Tensor, boxes: Tensor = BOX) -> Sample:
    none = torch.zeros(len(boxes), dtype=torch.bool)
    return Sample(image, boxes, torch.arange(len(boxes)), none, none)


def places() -> Tensor:
    """An image whose colours are the places of its pixels: red from left to right, green from top to bottom."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack((columns, rows, torch.zeros_like(rows))).mul(STEP).to(torch.uint8)


def varied(options: ImageOptions, image: Tensor, seed: int, ratio: Fraction = Fraction(1)) -> Sample:
    torch.manual_seed(seed)
    return TrainingTransform(options, ratio)(sample(image))


@settings(max_examples=25)
@given(OPTIONS, st.booleans(), st.integers(0, 1000))
def test_the_students_images_are_those_of_torchvisions_transforms(
    options: ImageOptions, colours: bool, seed: int
) -> None:
    """The same use of the random generator, the same bits."""
    options = replace(options, photometric=0.7 if colours else 0.0, hue=0.1 if colours else 0.0, flip=0.5)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    fitted = options.fitted((HEIGHT, WIDTH))
    smallest, largest = options.scale_jitter
    size = scaled(fitted, smallest + (largest - smallest) * float(torch.rand(())))
    expected = v2.Compose(
        [
            v2.Resize(size),
            v2.RandomCrop((min(size[0], fitted[0]), min(size[1], fitted[1]))),
            v2.RandomHorizontalFlip(options.flip),
            v2.RandomApply([v2.ColorJitter(0.125, 0.5, 0.5, options.hue or None)], p=options.photometric),
        ]
    )(tv_tensors.Image(image))
    after = torch.get_rng_state()
    found = varied(options, image, seed)
    assert torch.equal(found.image, expected.as_subclass(Tensor))
    assert torch.equal(torch.get_rng_state(), after)
    assert found.teacher_image is None


@settings(max_examples=25)
@given(OPTIONS, RATIOS, st.integers(0, 1000))
def test_the_teachers_size_changes_nothing_for_the_student(options: ImageOptions, ratio: Fraction, seed: int) -> None:
    options = replace(options, photometric=0.5)
    alone = varied(options, places(), seed)
    state = torch.get_rng_state()
    beside = varied(options, places(), seed, ratio)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("image", "boxes", "labels"):
        assert torch.equal(getattr(alone, name), getattr(beside, name)), name
    assert (beside.teacher_image is None) == (ratio == 1)
    if beside.teacher_image is not None:
        assert beside.teacher_image.dtype == torch.uint8
        expected = tuple(max(1, round(side * ratio)) for side in beside.size)
        assert beside.teacher_image.shape[-2:] == expected


@settings(max_examples=50)
@given(OPTIONS, RATIOS, st.integers(0, 1000))
def test_the_teacher_sees_the_same_region(options: ImageOptions, ratio: Fraction, seed: int) -> None:
    """Corresponding places show the same place of the original, to a pixel of the teacher's image."""
    found = varied(options, places(), seed, ratio)
    shown = found.image if found.teacher_image is None else found.teacher_image
    (height, width), (tall, wide) = found.size, shown.shape[-2:]
    # Places in shares of the image, away from its border, where resizing has fewer pixels to average.
    share = torch.linspace(0.15, 0.85, 8)
    own, other = at_places(found.image, share), at_places(shown, share)
    # From a pixel of the original to one of the teacher's image: what the visible part spans.
    for channel, (axis, side) in enumerate(((1, wide), (0, tall))):
        across = own[channel].mean(dim=1 - axis)
        per_share = (across[-1] - across[0]).abs() / (0.7 * STEP)  # pixels of the original in the whole image
        pixels = (own[channel] - other[channel]).abs().max() / STEP * side / per_share
        assert pixels <= 1 + 1.5 / STEP * side / per_share, (height, width, tall, wide)
        assert ((own[channel] - other[channel]).mean().abs() / STEP * side / per_share) <= 1


def at_places(image: Tensor, share: Tensor) -> Tensor:
    """`(3, n, n)` colours at shares of height and width, bilinearly."""
    points = torch.stack(torch.meshgrid(share, share, indexing="xy"), dim=-1) * 2 - 1
    return torch.nn.functional.grid_sample(image.float()[None], points[None], align_corners=False)[0]


@settings(max_examples=25)
@given(OPTIONS, RATIOS, st.integers(0, 1000))
def test_boxes_times_the_ratio_fit_the_teachers_image(options: ImageOptions, ratio: Fraction, seed: int) -> None:
    left, top, right, bottom = BOX[0].int().tolist()
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    image[:, top:bottom, left:right] = 255
    found = varied(options, image, seed, ratio)
    if found.teacher_image is None or not len(found.boxes):
        return
    rows, columns = (found.teacher_image[0] > 127).nonzero(as_tuple=True)
    painted = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
    scale = torch.tensor(found.teacher_image.shape[-2:]) / torch.tensor(found.size)
    expected = found.boxes[0] * torch.cat((scale, scale)).flip(0)
    # Half a pixel of the brightness, and up to a pixel of the place.
    torch.testing.assert_close(painted, expected, atol=1.6, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_colours_change_alike(seed: int) -> None:
    image = torch.tensor([200, 90, 40], dtype=torch.uint8)[:, None, None].expand(3, HEIGHT, WIDTH)
    found = varied(ImageOptions(64, 96, photometric=1.0, hue=0.2), image, seed, Fraction(2))
    assert found.teacher_image is not None
    colours = [each.float().mean(dim=(1, 2)) for each in (found.image, found.teacher_image)]
    assert (colours[0] - torch.tensor([200.0, 90, 40])).abs().max() > 2
    torch.testing.assert_close(colours[0], colours[1], atol=1.0, rtol=0)


def test_images_that_do_not_vary_are_resized_for_both() -> None:
    found = varied(ImageOptions(48, 60, flip=0.0), places(), 0, Fraction(2))
    assert found.size == (48, 60)
    assert found.teacher_image is not None
    assert torch.equal(found.teacher_image, places())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"), side=60)


def batches(data: Path, ratio: Fraction, workers: int = 0) -> list[Batch]:
    options = ImageOptions(letterbox=48, scale_jitter=(0.7, 1.3))
    dataset = open_dataset(data, "train")
    return list(
        training_loader(dataset, options, batch_size=4, seed=1, workers=workers, teacher=TeacherInputs(ratio=ratio))
    )


def test_batches_bring_the_teachers_images_on_a_canvas_that_covers(data: Path) -> None:
    alone = batches(data, Fraction(1))
    for ratio, canvas in ((Fraction(2), (128, 128)), (Fraction(5, 4), (96, 96)), (Fraction(1, 2), (32, 32))):
        for own, plain in zip(batches(data, ratio), alone, strict=True):
            assert torch.equal(own.images, plain.images)
            assert plain.targets.teacher_images is None
            shown = own.targets.teacher_images
            assert shown is not None
            assert shown.images.shape == (4, 3, *canvas)
            assert shown.images.dtype == torch.uint8
            assert shown.sizes.tolist() == [
                [round(side * ratio) for side in size] for size in own.targets.sizes.tolist()
            ]
            for image, (height, width) in zip(shown.images, shown.sizes.tolist(), strict=True):
                assert not image[:, height:].any()
                assert not image[:, :, width:].any()
                assert image[:, height - 1].any()


def test_they_follow_their_targets(data: Path) -> None:
    whole = batches(data, Fraction(2))[0].to("cpu").targets
    part = whole.of_images(1, 3)
    assert whole.teacher_images is not None
    assert part.teacher_images is not None
    assert torch.equal(part.teacher_images.images, whole.teacher_images.images[1:3])
    assert torch.equal(part.teacher_images.sizes, whole.teacher_images.sizes[1:3])


def test_loading_processes_change_nothing(data: Path) -> None:
    for own, other in zip(batches(data, Fraction(2)), batches(data, Fraction(2), workers=1), strict=True):
        assert own.targets.teacher_images is not None
        assert other.targets.teacher_images is not None
        assert torch.equal(own.targets.teacher_images.images, other.targets.teacher_images.images)
