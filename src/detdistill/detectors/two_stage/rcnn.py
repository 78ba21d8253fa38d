"""What all two-stage detectors do: propose, choose what learns, read the proposals, score and refine them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detdistill.core.boxes import box_sides, clip_boxes
from detdistill.core.grid import Grid
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import DENSE_OFFERS, Offer
from detdistill.core.output import Candidates, Features, Output, Predictions
from detdistill.core.structures import BACKGROUND, Assignment, Detections, Matches, ReduceSum, Targets, single_process
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.dense.heads.dense_head import Assigner
from detdistill.detectors.two_stage.masks import MaskPredictions, mask_loss, with_masks
from detdistill.detectors.two_stage.proposals import Proposals
from detdistill.detectors.two_stage.region_predictions import RegionPredictions, averaged, in_rows
from detdistill.detectors.two_stage.region_rules import ProposalRules, RegionRules
from detdistill.detectors.two_stage.sampling import Sampler, sampled
from detdistill.detectors.two_stage.two_stage_losses import proposal_losses, region_losses

PROPOSALS = "rpn"
"""The name of the first stage; its only class is "object"."""
REGIONS = "roi"
"""The name of the second stage; those of a cascade are `roi1`, `roi2` and so on."""


class Rcnn(Detector):
    """A region proposal network, and one or several region heads that read its proposals. Subclasses have the layers.

    In training mode the objects' own boxes are among the proposals, and of all of them a random few are read and learn.
    In evaluation mode all proposals are read, and of the targets only the images' sizes.

    Args:
        classes: class names.
        input: what images it reads.
        proposing: rules of the first stage.
        regions: rules of the second.
        anchor_assigner: which anchors learn which object.
        anchor_coder: writes boxes as deltas from anchors.
        anchor_sampler: which anchors learn in a step.
        region_sampler: which proposals learn in a step.
    """

    def __init__(
        self,
        classes: Sequence[str],
        input: InputSpec,
        *,
        proposing: ProposalRules,
        regions: RegionRules,
        anchor_assigner: Assigner,
        anchor_coder: DeltaCoder,
        anchor_sampler: Sampler,
        region_sampler: Sampler,
    ) -> None:
        super().__init__(classes, input)
        self.proposing, self.regions = proposing, regions
        self.anchor_assigner, self.anchor_sampler = anchor_assigner, anchor_sampler
        self.region_sampler = region_sampler
        self.anchor_coder = anchor_coder
        self.keeps_positives = False

    @abstractmethod
    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The pyramid of normalised images `(N, 3, H, W)`, L x `(N, Q, H_l, W_l)`."""

    @abstractmethod
    def grid(self, maps: Sequence[Tensor], canvas: tuple[int, int]) -> Grid:
        """The anchors of these maps of images of this height and width."""

    @abstractmethod
    def proposed(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits, L x `(N, A, H, W)`, and deltas, L x `(N, 4 A, H, W)`, of the anchors."""

    @abstractmethod
    def read_regions(self, stage: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(K, C + 1)`, background last, and deltas `(K, 4 C)` or `(K, 4)`, of features `(K, Q, S, S)`."""

    def read_masks(self, stage: int, features: Tensor) -> Tensor:
        """Mask logits `(K, C, S, S)` or `(K, 1, S, S)` of features `(K, Q, s, s)`, of detectors with a mask branch."""
        raise NotImplementedError(f"{type(self).__name__} has no mask branch")

    @property
    def has_masks(self) -> bool:
        """Whether there is a mask branch."""
        return self.regions.masks is not None

    @property
    def offers(self) -> frozenset[Offer]:
        """Features, anchors on their cells, boxes, and a second stage that reads given proposals."""
        return DENSE_OFFERS | {"anchors", "rois"}

    @property
    def region_reader(self) -> Rcnn:
        """The detector itself."""
        return self

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Of the region heads' stages."""
        count = len(self.regions.stages)
        return (REGIONS,) if count == 1 else tuple(f"{REGIONS}{number}" for number in range(1, count + 1))

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """Normalised images `(N, 3, H, W)` to an output with the stages `rpn` and `roi`, or `roi1` to `roi3`.

        In evaluation mode the scores of the last stage are averaged over all stages. Without targets images are taken
        to fill the canvas.
        """
        canvas = images.shape[-2], images.shape[-1]
        maps = self.maps(images)
        grid = self.grid(maps, canvas)
        logits, deltas = (grid.flatten(levels) for levels in self.proposed(maps))
        first = Predictions(Candidates(grid), logits, deltas, self.anchor_coder, any_class=True)
        sizes = images.new_tensor([canvas] * len(images)) if targets is None else targets.sizes
        objects = targets if self.training else None
        select = self.proposing.training if self.training else self.proposing.inference
        pool = select(_detached(first), sizes)
        stages: dict[str, Predictions] = {PROPOSALS: first}
        read: list[RegionPredictions] = []
        for number, name in enumerate(self.stage_names):
            read.append(self._stage(number, name, maps, pool, objects))
            stages[name] = read[-1]
            if number + 1 < len(self.stage_names):
                pool = self._refined(read[-1], sizes)
        final = self.stage_names[-1]
        if len(read) > 1 and not self.training:
            stages[final] = averaged(read, probabilities=self.regions.averages_probabilities)
        return Output(Features(maps, grid.strides), stages, final)

    def read_proposals(self, stage: int, maps: Sequence[Tensor], boxes: Tensor, valid: Tensor) -> RegionPredictions:
        """What a stage predicts for any proposals.

        Args:
            stage: number of the region head.
            maps: the pyramid, as in `Output.features`.
            boxes: `(N, P, 4)` in pixels.
            valid: `(N, P)` bool, which of them exist.
        """
        if torch.compiler.is_compiling():  # an exporter cannot follow how many there are: all places are read
            image = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand(boxes.shape[:2]).flatten()
            features = self.regions.features(maps, boxes.flatten(0, 1), image)
            logits, deltas = (values.reshape(*boxes.shape[:2], -1) for values in self.read_regions(stage, features))
        else:
            image, place = valid.nonzero(as_tuple=True)
            features = self.regions.features(maps, boxes[image, place], image)
            logits, deltas = (in_rows(values, valid) for values in self.read_regions(stage, features))
        coder = self.regions.stages[stage].coder
        candidates = Candidates(own=boxes, valid=valid)
        return RegionPredictions(candidates, logits, deltas, coder, activation="softmax")

    def keep_positives(self) -> None:
        """From now on the stages score all positive proposals in training; the loss is of those that are sampled."""
        self.keeps_positives = True

    def match(self, output: Output, targets: Targets) -> Matches:
        """Anchors by their overlap with objects, proposals by theirs, each stage at its own least overlap."""
        matches = {PROPOSALS: self.anchor_assigner(output.stages[PROPOSALS].grid, _as_one_class(targets))}
        for rules, name in zip(self.regions.stages, self.stage_names, strict=True):
            found = output.stages[name]
            assert isinstance(found, RegionPredictions)
            if found.pool is None or found.place is None:
                matches[name] = rules.matcher(_all_of(found.candidates), targets)
            else:
                pool = rules.matcher(found.pool, targets).matched
                chosen = pool.gather(1, found.place)
                matches[name] = Assignment(torch.where(_valid(found.candidates), chosen, pool.new_tensor(-2)))
        return matches

    def loss(
        self, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        """`proposal_object`, `proposal_box`, and of each stage of region heads `classification` and `box`."""
        anchors = matches[PROPOSALS]
        losses = proposal_losses(
            output.stages[PROPOSALS],
            targets,
            anchors,
            sampled(self.anchor_sampler, anchors, targets.draws, PROPOSALS),
            coder=self.anchor_coder,
            smoothness=self.proposing.smoothness,
            least=self.proposing.least,
            reduce_sum=reduce_sum,
        )
        for rules, name in zip(self.regions.stages, self.stage_names, strict=True):
            found = output.stages[name]
            assert isinstance(found, RegionPredictions)
            parts = region_losses(
                found,
                targets,
                matches[name],
                coder=rules.coder,
                smoothness=self.regions.smoothness,
                reduce_sum=reduce_sum,
            )
            if found.masks is not None and self.regions.masks is not None:
                parts["mask"] = mask_loss(found.masks, targets, self.regions.masks, reduce_sum)
            number = name.removeprefix(REGIONS)
            losses |= {f"{part}{number}": rules.weight * value for part, value in parts.items()}
        return losses

    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        """Detections per image, best first, clipped to the true `sizes` `(N, 2)` (height, width)."""
        found = self.postprocessing(output.predictions, sizes)
        if self.regions.masks is None:
            return found
        return with_masks(found, output.features.maps, self.regions.masks, self.read_masks, len(self.regions.stages))

    def _stage(
        self, number: int, name: str, maps: Sequence[Tensor], pool: Proposals, objects: Targets | None
    ) -> RegionPredictions:
        """What a stage predicts: for all proposals, or for those that are sampled for these objects."""
        if objects is None:
            return self.read_proposals(number, maps, pool.boxes, pool.valid)
        pool = pool.with_objects(objects)
        assignment = self.regions.stages[number].matcher(pool, objects)
        learns = sampled(self.region_sampler, assignment, objects.draws, name)
        place, valid = _places(learns | (assignment.matched >= 0) if self.keeps_positives else learns)
        boxes = pool.boxes.gather(1, place[..., None].expand(*place.shape, 4))
        found = self.read_proposals(number, maps, boxes, valid)
        found = replace(found, pool=pool, place=place, learns=valid & learns.gather(1, place))
        if self.regions.masks is None:
            return found
        return replace(found, masks=self._masks(number, maps, found, assignment.matched.gather(1, place)))

    def _masks(self, number: int, maps: Sequence[Tensor], found: RegionPredictions, matched: Tensor) -> MaskPredictions:
        """Masks of the positives that learn, `matched` `(N, P)` being the proposals' objects."""
        assert self.regions.masks is not None
        assert found.learns is not None
        image, place = ((matched >= 0) & found.learns).nonzero(as_tuple=True)
        boxes = found.candidates.at((image, place))
        logits = self.read_masks(number, self.regions.masks.features(maps, boxes, image))
        return MaskPredictions(logits, boxes, image, matched[image, place])

    @torch.no_grad()
    def _refined(self, found: RegionPredictions, sizes: Tensor) -> Proposals:
        """The boxes of a stage as proposals for the next, without those that were objects' own."""
        boxes = clip_boxes(found.boxes(), sizes[:, None])
        valid = _valid(found.candidates)
        if found.pool is not None and found.place is not None:
            was_object = found.pool.objects.gather(1, found.place) >= 0
            learned = valid if found.learns is None else found.learns
            valid = learned & ~was_object & (box_sides(boxes) > 0).all(dim=-1)
        nothing = torch.full_like(valid, BACKGROUND, dtype=torch.int64)
        return Proposals(boxes, boxes.new_ones(valid.shape), valid, nothing)


def _detached(predictions: Predictions) -> Predictions:
    return replace(predictions, logits=predictions.logits.detach(), regression=predictions.regression.detach())


def _as_one_class(targets: Targets) -> Targets:
    return replace(targets, labels=torch.zeros_like(targets.labels))


def _valid(candidates: Candidates) -> Tensor:
    """`(N, P)` bool, which of each image's own candidates exist."""
    if candidates.valid is not None:
        return candidates.valid
    return torch.ones(candidates.boxes.shape[:2], dtype=torch.bool, device=candidates.boxes.device)


def _all_of(candidates: Candidates) -> Proposals:
    valid = _valid(candidates)
    nothing = torch.full_like(valid, BACKGROUND, dtype=torch.int64)
    return Proposals(candidates.boxes, candidates.boxes.new_ones(valid.shape), valid, nothing)


def _places(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Where the chosen ones of each row of `(N, M)` stand, in order, `(N, P)`, and which of these places exist."""
    counts = chosen.sum(dim=1)
    most = int(counts.max()) if chosen.shape[1] else 0
    order = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    return order, torch.arange(most, device=chosen.device) < counts[:, None]
