"""The base class of every detector: what trains, teaches, predicts, is saved and exported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, overload

import numpy as np
from torch import Tensor, nn

from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import DENSE_OFFERS, Offer
from detdistill.core.output import Output, RegionReader, TowerHead
from detdistill.core.structures import Detections, Matches, ReduceSum, Targets, single_process
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.predicting import Pixels, predict_each
from detdistill.detectors.running import InferenceOptions
from detdistill.detectors.saving import OWN, save_detector


class Detector(nn.Module, ABC):
    """A detector of any kind. Subclass it to bring your own; `check_detector` tests the contract.

    Args:
        classes: class names; label c is `classes[c]`.
        input: what images it reads.

    Attributes:
        catalog_name: the kind's name in `model.json`; `own` for a class that is not of the catalog.
        architecture_type: a dataclass of everything that decides the layers, but the classes; None for a detector
            that is loaded into an object of its own class.
        architecture: this detector's.
        classes: class names.
        input: what images it reads.
        postprocessing: how detections are read off an output.
        score_thresholds: by class name, the score from which on a detection is shown; 0.3 for classes without one.
    """

    catalog_name: ClassVar[str] = OWN
    architecture_type: ClassVar[type[Any] | None] = None
    architecture: Any = None
    postprocessing: PostProcessing

    def __init__(self, classes: Sequence[str], input: InputSpec = InputSpec()) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.input = input
        self.score_thresholds: Mapping[str, float] = {}

    @abstractmethod
    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """Predict a batch; the same type in training and in inference.

        Args:
            images: `(N, 3, H, W)`, normalised.
            targets: in training mode the objects, for detectors whose predictions depend on them (sampled proposals,
                denoising queries). In evaluation mode only the sizes of the images, for detectors that clip boxes on
                the way; None where images fill the canvas. All others ignore them. A detector that draws random numbers
                here, in `match` or in `loss` takes them from `targets.draws` only.
        """

    @abstractmethod
    def match(self, output: Output, targets: Targets) -> Matches:
        """Return which ground truth the candidates of each stage are positive for.

        Background inside ignored boxes is `IGNORED`: the package's assigners and `ignore_background` see to it.
        """

    @abstractmethod
    def loss(
        self, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        """Return the named, weighted terms of the detection loss, each a scalar over the global normaliser.

        Candidates that are `IGNORED` have no part in the classification loss.

        Args:
            output: what `forward` returned.
            targets: the objects.
            matches: what `match` returned.
            reduce_sum: sums counts over processes.
        """

    @abstractmethod
    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        """Return the detections of each image, best first; `sizes` `(N, 2)` are true heights and widths in pixels."""

    @property
    def has_masks(self) -> bool:
        """Whether detections have masks; if so, datasets are read with masks."""
        return False

    @property
    def kind(self) -> str:
        """The detector's name in the literature, by which published weights of methods are found."""
        return type(self).__name__

    @property
    def offers(self) -> frozenset[Offer]:
        """What the detector gives to distillation; a dense detector's unless a subclass says otherwise."""
        return DENSE_OFFERS

    @property
    def tower_head(self) -> TowerHead | None:
        """The head that runs on given features, of detectors that offer `head`."""
        return None

    @property
    def region_reader(self) -> RegionReader | None:
        """The second stage, of detectors that offer `rois`."""
        return None

    @property
    def backbone_module(self) -> nn.Module | None:
        """The pretrained part, which may learn more slowly or not at all; None if there is none."""
        return None

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self,
        images: str | Path | Pixels,
        *,
        threshold: float | None = None,
        size: ImageSize | None = None,
        options: InferenceOptions = InferenceOptions(),
    ) -> Detections: ...

    @overload
    def predict(
        self,
        images: Sequence[str | Path | Pixels],
        *,
        threshold: float | None = None,
        size: ImageSize | None = None,
        options: InferenceOptions = InferenceOptions(),
    ) -> list[Detections]: ...

    def predict(
        self,
        images: str | Path | Pixels | Sequence[str | Path | Pixels],
        *,
        threshold: float | None = None,
        size: ImageSize | None = None,
        options: InferenceOptions = InferenceOptions(),
    ) -> Detections | list[Detections]:
        """Find the objects in images, on the device where the detector is.

        Images are predicted in evaluation mode. The detector itself, its modes and its statistics stay as they are, and
        several threads may use it.

        Args:
            images: an image or a list of them: files, or arrays `(H, W, 3)` uint8 RGB.
            threshold: least score, 0 to 1, of all classes; None for `score_thresholds`.
            size: the image size to resize to, instead of `input.size`.
            options: batch size and precision.

        Returns:
            The `Detections` of the image, or a list with those of each image, in its own pixels, best first.

        Raises:
            DataError: an image cannot be read, or an array is none.
            DetdistillError: the image size is not known, the threshold is no probability, or the detector is in
                training mode and cannot be copied.
        """
        size = size or self.input.size
        if isinstance(images, str | Path | np.ndarray):
            return predict_each(self, [images], threshold=threshold, size=size, options=options)[0]
        return predict_each(self, images, threshold=threshold, size=size, options=options)

    def save(
        self,
        folder: str | Path,
        *,
        image_size: ImageSize | None = None,
        thresholds: Mapping[str, float] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Write `model.safetensors` and `model.json` into a folder, from which `detdistill.load` reads the detector.

        Args:
            folder: created if it does not exist; a detector that is there already is replaced.
            image_size: what the detector was trained for, instead of `input.size`.
            thresholds: by class name, the score from which on a detection is shown.
            provenance: anything to remember about where the weights come from, of JSON types.

        Raises:
            DetdistillError: the detector is of no kind that can be saved, is not in float32, or the folder cannot be
                written.
        """
        save_detector(self, Path(folder), image_size=image_size, thresholds=thresholds, provenance=provenance)

    @classmethod
    def from_architecture(cls, architecture: Any, classes: Sequence[str], input: InputSpec = InputSpec()) -> Detector:
        """Build a detector of this kind with random weights; every kind of the catalog does.

        Args:
            architecture: of the kind's `architecture_type`.
            classes: class names.
            input: what images it reads.

        Raises:
            DetdistillError: the architecture makes no sense.
        """
        raise NotImplementedError(f"{cls.__name__} is no kind of the catalog")
