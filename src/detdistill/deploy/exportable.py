"""A detector as one function of tensors, of shapes that an exporter can follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detdistill.core.boxes import clip_boxes
from detdistill.core.output import Output, Predictions
from detdistill.core.structures import Targets
from detdistill.detectors.base import Detector
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.suppression import kept_by_nms

CLASSES_ABREAST = 64
"""Boxes of different classes are moved apart on a lattice this wide: in a row of C places, float32 would lose up to a
sixteenth of a pixel."""
NO_SCORE = -1.0


def read(detector: Detector, images: Tensor, sizes: Tensor) -> Predictions:
    """The final predictions for a batch, computed in the type of the detector's weights; arguments as of `Raw`."""
    pixels = detector.input.normalization(images, sizes).to(next(detector.parameters()).dtype)
    output: Output = detector(pixels, Targets.without_objects(sizes))
    return output.predictions


class Raw(nn.Module):
    """Scores and boxes of all priors, nothing selected.

    Args:
        detector: in evaluation mode.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Reads a batch.

        Args:
            images: `(N, 3, H, W)` uint8 RGB, each in the upper left corner of its canvas.
            sizes: `(N, 2)` int64, true height and width of each image.

        Returns:
            Scores `(N, P, C)`, 0 to 1, and boxes `(N, P, 4)`, x1 y1 x2 y2 in pixels of the canvas.
        """
        predictions = read(self.detector, images, sizes)
        return predictions.scores(), clip_boxes(predictions.boxes(), sizes[:, None])


class EndToEnd(nn.Module):
    """Detections, as `PostProcessing` reads them off an output, with a fixed number of places for them.

    Args:
        detector: in evaluation mode.
        postprocessing: the detector's.
    """

    def __init__(self, detector: Detector, postprocessing: PostProcessing) -> None:
        super().__init__()
        self.detector, self.postprocessing = detector, postprocessing

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reads a batch; arguments as of `Raw`.

        Returns:
            Of the D best places of each image, best first: boxes `(N, D, 4)` in pixels of the canvas, scores `(N, D)`,
            -1 where there is no detection, labels `(N, D)` int64; and the number `(N,)` of detections.
        """
        predictions = read(self.detector, images, sizes)
        (image, prior, label), passes = self._selected(predictions)
        index = image.flatten(), prior.flatten(), label.flatten()
        shape = prior.shape
        boxes = clip_boxes(predictions.class_boxes(index).reshape(*shape, 4), sizes[:, None])
        is_box = (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
        scores = torch.where(passes & is_box, predictions.scores(index).reshape(shape), NO_SCORE)

        apart = boxes
        if not self.postprocessing.class_agnostic:
            place = torch.stack((label % CLASSES_ABREAST, label // CLASSES_ABREAST), dim=2).repeat(1, 1, 2)
            apart = boxes + place * (boxes.amax(dim=(1, 2), keepdim=True) + 1)
        kept = kept_by_nms(apart, scores, self.postprocessing.iou_threshold)
        final = torch.where(kept > 0, scores, NO_SCORE)
        best, order = final.topk(min(self.postprocessing.max_detections, final.shape[1]), dim=1)
        places = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        return places, best, label.gather(1, order), (best >= 0).sum(dim=1)

    def _selected(self, predictions: Predictions) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Image, prior and class of the best candidates, and which pass the threshold, `(N, K)` each."""
        candidates = predictions.candidates
        lengths = (candidates.count,) if candidates.grid is None else candidates.grid.level_lengths
        values, prior, label = self.postprocessing.best_pairs(predictions.class_logits, lengths)
        image = torch.arange(prior.shape[0], device=prior.device)[:, None].expand(-1, prior.shape[1])
        passes = values > self.postprocessing.least_logit
        if candidates.valid is not None:
            passes = passes & candidates.valid.gather(1, prior)
        return (image, prior, label), passes
