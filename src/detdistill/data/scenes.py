"""The data set that comes with the toolkit: handwritten digits on photographs, to try everything without a download.

Digits (Alpaydin and Kaynak, UCI 1998) and the two photographs (CC BY 2.0, flickr.com: danielbuechele, vultilion) are
those that scikit-learn ships. Training, validation and test use disjoint digit samples and disjoint regions of the
photographs, the same for every seed: no set trains on what another, of whatever seed, tests on.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detdistill.core.errors import DetdistillError
from detdistill.core.files import new_folder
from detdistill.core.progress import track
from detdistill.core.rle import rle_of_bitmap
from detdistill.core.seeds import derived_seed

CLASSES = tuple("0123456789")
# Of every five digit samples, and of a photograph's width, what belongs to which split.
DIGIT_SHARES = {"train": (0, 1, 2), "val": (3,), "test": (4,)}
WIDTH_SHARES = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}

EMPTY_SHARE = 0.04
MOST_OBJECTS = 7
# Height of an upright digit and side of the window cut from a photograph, in pixels, for a picture of REFERENCE_SIZE.
REFERENCE_SIZE = 128
DIGIT_HEIGHTS = (13.0, 58.0)
WINDOW_SIDES = (72, 128)
LARGEST_TURN = 15.0
MOST_STROKES = 3
# A digit must stay visible to this share of its ink, and differ this much in brightness (0 to 255) from what it is on.
LEAST_VISIBLE = 0.65
LEAST_CONTRAST = 80.0
PLACING_TRIES = 5

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Material:
    """What one split's scenes are made of.

    Attributes:
        digits: `(n, 8, 8)` uint8: ink, 0 to 255.
        labels: `(n,)` int64, 0 to 9.
        photographs: regions `(H, W, 3)` uint8.
    """

    digits: Pixels
    labels: NDArray[np.int64]
    photographs: tuple[Pixels, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture and its objects.

    Attributes:
        image: `(size, size, 3)` uint8.
        boxes: x, y, width and height of each digit's ink in pixels, also where another digit covers it.
        labels: 0 to 9.
        masks: `(size, size)` bool, the pixels of each digit's ink that no other digit covers.
    """

    image: Pixels
    boxes: tuple[tuple[int, int, int, int], ...]
    labels: tuple[int, ...]
    masks: tuple[NDArray[np.bool_], ...]


def split_material(split: str) -> Material:
    """The digits and photograph regions of `split`: train, val or test.

    Raises:
        DetdistillError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ImportError as error:
        raise DetdistillError(
            "the scenes are made of digits and photographs that scikit-learn ships, and it is not installed: "
            "pip install 'detdistill[scenes]'"
        ) from error
    digits = load_digits()
    # By turns within each class: the file has the classes themselves by turns.
    turn = np.zeros(len(digits.target), np.int64)
    for label in range(len(CLASSES)):
        members = np.flatnonzero(digits.target == label)
        turn[members] = np.arange(len(members)) % 5
    chosen = np.isin(turn, DIGIT_SHARES[split])
    left, right = WIDTH_SHARES[split]
    return Material(
        digits=np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8),
        labels=digits.target[chosen].astype(np.int64),
        photographs=tuple(
            photograph[:, round(left * photograph.shape[1]) : round(right * photograph.shape[1])]
            for photograph in load_sample_images().images
        ),
    )


def draw_scene(material: Material, size: int, rng: np.random.Generator) -> Scene:
    """Makes up one picture of `size` x `size` pixels."""
    image = _with_strokes(_background(material.photographs, size, rng), rng)
    count = 0 if rng.random() < EMPTY_SHARE else int(rng.integers(1, MOST_OBJECTS + 1))
    boxes, labels = [], []
    placed: list[tuple[NDArray[np.bool_], float]] = []  # what is still seen of each digit, and how much must be
    for _ in range(count):
        for _ in range(PLACING_TRIES):
            index = int(rng.integers(len(material.labels)))
            alpha = _pen_stroke(material.digits[index], size, rng)
            ink = alpha > 0.5
            y, x = (int(rng.integers(size - extent + 1)) for extent in ink.shape)
            window = slice(y, y + ink.shape[0]), slice(x, x + ink.shape[1])
            if all(seen.sum() - (seen[window] & ink).sum() >= least for seen, least in placed):
                break
        else:
            continue
        for seen, _ in placed:
            seen[window] &= ~ink
        whole = np.zeros((size, size), bool)
        whole[window] = ink
        placed.append((whole, LEAST_VISIBLE * ink.sum()))
        color = _contrasting_color(image[window][ink].mean(axis=0), rng)
        image[window] += alpha[..., None] * (color - image[window])
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        box = columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
        boxes.append((x + int(box[0]), y + int(box[1]), int(box[2]), int(box[3])))
        labels.append(int(material.labels[index]))
    masks = tuple(seen for seen, _ in placed)
    return Scene(np.round(image).clip(0, 255).astype(np.uint8), tuple(boxes), tuple(labels), masks)


def _background(photographs: tuple[Pixels, ...], size: int, rng: np.random.Generator) -> Pixels:
    """A window of a photograph, brought to size, mirrored, and brightened or darkened at random."""
    photograph = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(WINDOW_SIDES[0], WINDOW_SIDES[1] + 1))
    top, left = (int(rng.integers(extent - side + 1)) for extent in photograph.shape[:2])
    window = Image.fromarray(np.ascontiguousarray(photograph[top : top + side, left : left + side]))
    pixels = np.asarray(window.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)
    pixels = pixels[:, :: rng.choice((-1, 1))] * rng.uniform(0.6, 1.1)
    return np.round(pixels.clip(0, 255)).astype(np.uint8)


def _with_strokes(image: Pixels, rng: np.random.Generator) -> NDArray[np.float64]:
    """Adds curved pen strokes that are no digit, drawn at double size and shrunk so that their edges are smooth."""
    size = 2 * len(image)
    canvas = Image.fromarray(image).resize((size, size), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(MOST_STROKES + 1))):
        steps = 16
        # The heading changes steadily: an arc or a spiral, longer than a digit.
        heading = rng.uniform(0, 2 * math.pi) + np.cumsum(
            np.linspace(rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), steps)
        )
        length = size * rng.uniform(0.02, 0.06)
        points = rng.uniform(0, size, 2) + np.cumsum(length * np.stack((np.cos(heading), np.sin(heading)), 1), axis=0)
        color = tuple(int(channel) for channel in rng.integers(256, size=3))
        width = max(2, round(size * rng.uniform(0.008, 0.025)))
        pen.line([(float(x), float(y)) for x, y in points], fill=color, width=width, joint="curve")
    return np.asarray(canvas.reduce(2), dtype=np.float64)


def _pen_stroke(digit: Pixels, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`(h, w)` ink from 0 to 1 of one digit: enlarged, stretched, turned, and cut to where there is ink."""
    smallest, largest = (height * size / REFERENCE_SIZE for height in DIGIT_HEIGHTS)
    height = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    width = height * rng.uniform(0.85, 1.2)
    # A margin keeps the ink away from the edge, where enlarging would cut it off.
    margin = 2
    scaled = Image.fromarray(np.pad(digit, margin)).resize(
        (round(width * (8 + 2 * margin) / 8), round(height * (8 + 2 * margin) / 8)), Image.Resampling.BICUBIC
    )
    turned = scaled.rotate(rng.uniform(-LARGEST_TURN, LARGEST_TURN), Image.Resampling.BICUBIC)
    # Eight pixels enlarged are a blur: a steeper edge makes a pen stroke of it again.
    ink: NDArray[np.float64] = ((np.asarray(turned) / 255 - 0.3) / 0.35).clip(0, 1)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _contrasting_color(background: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A random colour that stands out by its brightness (ITU-R BT.601) from the mean colour it is painted on."""
    brightness = np.array([0.299, 0.587, 0.114])
    candidates = rng.uniform(0, 255, (32, 3))
    contrast = np.abs((candidates - background) @ brightness)
    enough = contrast >= LEAST_CONTRAST
    chosen: NDArray[np.float64] = candidates[np.argmax(enough) if enough.any() else np.argmax(contrast)]
    return chosen


def write_scenes(
    out: Path, *, seed: int = 0, train: int = 2000, val: int = 500, test: int = 500, size: int = REFERENCE_SIZE
) -> None:
    """Writes the three splits as a COCO folder: train.json, val.json, test.json and images/.

    Picture i of a split is the same however many there are. The folder appears whole or not at all. Annotations have
    the digit's mask as RLE; `area` is the box's.

    Args:
        out: the folder to make; it must not exist.
        seed: another seed gives other pictures.
        train: number of training pictures.
        val: number of validation pictures.
        test: number of test pictures.
        size: side of a picture in pixels, at least 64.

    Raises:
        DetdistillError: a number is too small, `out` exists or cannot be written, or scikit-learn is not installed.
    """
    if size < 64 or min(train, val, test) < 1:
        raise DetdistillError(
            f"scenes: size must be at least 64 pixels and each split at least 1 picture "
            f"(given: size {size}, train {train}, val {val}, test {test})"
        )
    with new_folder(out) as folder:
        (folder / "images").mkdir()
        for split, count in (("train", train), ("val", val), ("test", test)):
            annotations = _write_split(folder, split, count, size, seed)
            (folder / f"{split}.json").write_text(json.dumps(annotations), encoding="utf-8")


def _write_split(folder: Path, split: str, count: int, size: int, seed: int) -> dict[str, Any]:
    """Writes the pictures of one split and returns its COCO annotations."""
    material = split_material(split)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in track(range(count), f"drawing {split}"):
        scene = draw_scene(material, size, np.random.default_rng(derived_seed(seed, split, number)))
        name = f"{split}_{number:05d}.jpg"
        Image.fromarray(scene.image).save(folder / "images" / name, quality=95, subsampling=0)
        images.append({"id": number + 1, "file_name": name, "width": size, "height": size})
        for box, label, mask in zip(scene.boxes, scene.labels, scene.masks, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": label + 1,
                    "bbox": box,
                    "segmentation": {"size": [size, size], "counts": rle_of_bitmap(mask)},
                    # The box's, not the mask's: sizes of objects in recorded scores go by it.
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    return {
        "info": {"description": f"detdistill scenes, {split}, seed {seed}"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
