"""Both stages against mmdetection: anchors, targets, loss terms, gradients, proposals, features, detections."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from conftest import Golden
from detdistill.core.bounds import MOST
from detdistill.core.output import Candidates, Predictions
from detdistill.core.structures import BACKGROUND, IGNORED, single_process
from detdistill.detectors.dense.assigners import MaxIouAssigner, Region
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.two_stage.proposals import ProposalMatcher, ProposalSelection
from detdistill.detectors.two_stage.region_features import RegionFeatures
from detdistill.detectors.two_stage.region_head import RegionHead
from detdistill.detectors.two_stage.region_predictions import RegionPredictions, averaged, in_rows
from detdistill.detectors.two_stage.two_stage_losses import proposal_losses, region_losses
from support.golden_regions import Arrays, anchor_grid, levels, listed, objects, per_image, regions, tensor

pytestmark = pytest.mark.golden

STAGE_DEVIATIONS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
RPN_CASES = ["rpn_faster", "rpn_cascade"]


def first_stage(vectors: Arrays) -> tuple[Predictions, list[Tensor], list[Tensor]]:
    """Predictions on the grid, and the maps that they are made of."""
    grid = anchor_grid(vectors)
    logits, deltas = levels(vectors, "rpn_cls"), levels(vectors, "rpn_reg")
    for each in (*logits, *deltas):
        each.requires_grad_()
    flat = grid.flatten(logits), grid.flatten(deltas)
    return Predictions(Candidates(grid), *flat, DeltaCoder()), logits, deltas


def assigner(vectors: Arrays) -> MaxIouAssigner:
    inside = int(vectors["allowed_border"]) >= 0
    return MaxIouAssigner(0.7, 0.3, minimum=0.3, region=Region(32, inside=inside))


@pytest.mark.parametrize("case", RPN_CASES)
def test_anchors_and_what_they_learn(golden2: Golden, case: str) -> None:
    vectors = golden2(case)
    grid = anchor_grid(vectors)
    torch.testing.assert_close(grid.priors, torch.from_numpy(vectors["anchors"]), atol=1e-3, rtol=0)
    matched = tensor(vectors["matched"])
    expected = torch.where(matched == -3, IGNORED, matched)  # what takes no part learns nothing here
    first = tensor(vectors["gt_boxes_img0"]).shape[0]
    expected[1] = torch.where(expected[1] >= 0, expected[1] + first, expected[1])
    assert torch.equal(assigner(vectors)(grid, objects(vectors)).matched, expected)


@pytest.mark.parametrize("case", RPN_CASES)
@pytest.mark.parametrize(
    ("prefix", "empty"), [("", ()), ("all_", ()), ("all_img1empty_", (1,)), ("all_allempty_", (0, 1))]
)
def test_losses_and_gradients_of_anchors(golden2: Golden, case: str, prefix: str, empty: tuple[int, ...]) -> None:
    vectors = golden2(case)
    predictions, *maps = first_stage(vectors)
    targets = objects(vectors, empty)
    assignment = assigner(vectors)(predictions.grid, targets)
    learns = assignment.matched != IGNORED
    if not prefix:
        learns = tensor(vectors["sampled"]) >= 0
    losses = proposal_losses(
        predictions,
        targets,
        assignment,
        learns,
        coder=DeltaCoder(),
        smoothness=float(vectors["smooth_l1_beta"]),
        least=1,
        reduce_sum=single_process,
    )
    for ours, theirs in (("proposal_object", "cls"), ("proposal_box", "bbox")):
        torch.testing.assert_close(losses[ours], tensor(vectors[f"{prefix}loss_rpn_{theirs}_total"]), rtol=1e-5, atol=0)
    if empty:
        return
    gradients = torch.autograd.grad(torch.stack(tuple(losses.values())).sum(), [*maps[0], *maps[1]])
    expected = [*levels(vectors, f"{prefix}grad_cls"), *levels(vectors, f"{prefix}grad_reg")]
    for gradient, other in zip(gradients, expected, strict=True):
        assert (gradient - other).abs().max() <= 2e-5 * other.abs().max()


@pytest.mark.parametrize("case", RPN_CASES)
@pytest.mark.parametrize(
    ("name", "selection"),
    [
        ("test", ProposalSelection(1000, 1000)),
        ("train", ProposalSelection(2000, 1000)),
        ("small", ProposalSelection(60, 40)),
        ("minsize", ProposalSelection(1000, 1000, least_side=12)),
    ],
)
def test_proposals(golden2: Golden, case: str, name: str, selection: ProposalSelection) -> None:
    vectors = golden2(case)
    found = selection(first_stage(vectors)[0], torch.from_numpy(vectors["img_hw"]))
    boxes, scores = per_image(vectors, f"{name}_proposal_boxes"), per_image(vectors, f"{name}_proposal_scores")
    for number, valid in enumerate(found.valid):
        torch.testing.assert_close(found.boxes[number, valid], boxes[number], atol=1e-2, rtol=0)
        torch.testing.assert_close(found.scores[number, valid], scores[number], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "matcher"),
    [
        ("faster", ProposalMatcher(0.5)),
        ("mask", ProposalMatcher(0.5, match_low_quality=True)),
        ("stage2", ProposalMatcher(0.6)),
        ("stage3", ProposalMatcher(0.7)),
    ],
)
def test_what_proposals_learn(golden2: Golden, name: str, matcher: ProposalMatcher) -> None:
    vectors = golden2("roi_assign")
    proposals, targets = listed(per_image(vectors, "proposals")), objects(vectors)
    matched = matcher(proposals, targets).matched
    first = 0
    for number, expected in enumerate(per_image(vectors, f"assigned_{name}")):
        own = matched[number, proposals.valid[number]]
        assert torch.equal(torch.where(own >= 0, own - first, own), expected)
        first += len(vectors[f"gt_boxes_img{number}"])


def test_features_of_proposals(golden2: Golden) -> None:
    vectors = golden2("roi_align")
    maps, (boxes, image) = levels(vectors, "feature"), regions(vectors["rois"])
    strides = tuple(vectors["strides"].tolist())
    for peer, aligned, points in (("mmdet", True, 0), ("torchvision", False, 2)):
        for size in (7, 14):
            read = RegionFeatures(strides, size, aligned, points)
            torch.testing.assert_close(
                read(maps, boxes, image), tensor(vectors[f"{peer}_{size}"]), atol=1e-5, rtol=1e-5
            )
        assert torch.equal(read.levels(boxes), torch.from_numpy(vectors[f"levels_{peer}"]))


def head_of(vectors: Arrays, prefix: str, num_classes: int) -> RegionHead:
    """The head with a case's weights."""
    names = {"shared_fcs.0": "layers.0", "shared_fcs.1": "layers.1", "fc_cls": "class_predictor"}
    names["fc_reg"] = "box_predictor"
    state = {
        f"{ours}.{kind}": tensor(vectors[f"{prefix}{theirs}.{kind}"])
        for theirs, ours in names.items()
        for kind in ("weight", "bias")
    }
    channels = levels(vectors, "feature")[0].shape[1]
    width = len(state["layers.0.bias"])
    is_agnostic = len(state["box_predictor.bias"]) == 4
    head = RegionHead(channels, 7, num_classes, width=width, class_boxes=not is_agnostic).double()
    head.load_state_dict(state)
    return head


def read_by(
    head: RegionHead, maps: list[Tensor], strides: tuple[int, ...], boxes: Tensor, image: Tensor, coder: DeltaCoder
) -> RegionPredictions:
    """What a head predicts for boxes of two images, in order."""
    logits, deltas = head(RegionFeatures(strides)(maps, boxes, image))
    proposals = listed([boxes[image == number] for number in (0, 1)])
    return RegionPredictions(
        Candidates(own=proposals.boxes, valid=proposals.valid),
        in_rows(logits, proposals.valid),
        in_rows(deltas, proposals.valid),
        coder,
        activation="softmax",
    )


@pytest.mark.parametrize(("case", "smoothness"), [("specific", 0.0), ("agnostic", 1.0)])
def test_region_head(golden2: Golden, case: str, smoothness: float) -> None:
    vectors = golden2("roi_bbox")
    maps, (boxes, image) = levels(vectors, "feature"), regions(vectors[f"{case}_rois"])
    for each in maps:
        each.requires_grad_()
    strides, classes = tuple(vectors["strides"].tolist()), int(vectors["num_classes"])
    head, coder = head_of(vectors, f"{case}_w_", classes), DeltaCoder((0.1, 0.1, 0.2, 0.2))
    found = read_by(head, maps, strides, boxes, image, coder)
    targets = objects(vectors)
    proposals = listed([boxes[image == number] for number in (0, 1)])
    matched = ProposalMatcher(0.5)(proposals, targets)
    labels = matched.labels(targets)[proposals.valid]
    assert torch.equal(torch.where(labels == BACKGROUND, classes, labels), tensor(vectors[f"{case}_labels"]))
    torch.testing.assert_close(found.logits[proposals.valid], tensor(vectors[f"{case}_cls_score"]), atol=1e-5, rtol=0)
    losses = region_losses(found, targets, matched, coder=coder, smoothness=smoothness, reduce_sum=single_process)
    for ours, theirs in (("classification", "cls"), ("box", "bbox")):
        torch.testing.assert_close(losses[ours], tensor(vectors[f"{case}_loss_{theirs}"]), rtol=1e-5, atol=0)
    wanted = [*maps, head.class_predictor.weight, head.box_predictor.weight, head.layers[0].get_parameter("weight")]
    names = [f"feature_l{number}" for number in range(len(maps))]
    names += ["fc_cls.weight", "fc_reg.weight", "shared_fcs.0.weight"]
    gradients = torch.autograd.grad(losses["classification"] + losses["box"], wanted)
    for name, gradient in zip(names, gradients, strict=True):
        other = tensor(vectors[f"{case}_grad_{name}"])
        assert (gradient - other).abs().max() <= 2e-5 * other.abs().max(), name


@pytest.mark.parametrize("case", ["specific", "agnostic"])
@pytest.mark.parametrize(
    ("name", "postprocessing"),
    [
        ("det", PostProcessing(iou_threshold=0.5, candidates_per_level=MOST)),
        ("det10", PostProcessing(0.3, 0.3, candidates_per_level=MOST, max_detections=10)),
    ],
)
def test_detections(golden2: Golden, case: str, name: str, postprocessing: PostProcessing) -> None:
    vectors = golden2("roi_bbox")
    proposals = listed(per_image(vectors, "proposals"))
    found = RegionPredictions(
        Candidates(own=proposals.boxes, valid=proposals.valid),
        in_rows(tensor(vectors[f"{case}_test_cls_score"]), proposals.valid),
        in_rows(tensor(vectors[f"{case}_test_bbox_pred"]), proposals.valid),
        DeltaCoder((0.1, 0.1, 0.2, 0.2)),
        activation="softmax",
    )
    detections = postprocessing(found, torch.from_numpy(vectors["img_hw"]))
    parts = [per_image(vectors, f"{case}_{name}_{part}") for part in ("boxes", "scores", "labels")]
    for own, boxes, scores, labels in zip(detections, *parts, strict=True):
        torch.testing.assert_close(own.scores.double(), scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(own.boxes.double(), boxes, atol=1e-2, rtol=0)
        assert torch.equal(own.labels, labels)


def test_cascade_losses(golden2: Golden) -> None:
    vectors = golden2("cascade")
    maps, strides = levels(vectors, "feature"), tuple(vectors["strides"].tolist())
    targets = objects(vectors)
    total: dict[str, Tensor] = {}
    for stage, (positive, deviations, weight) in enumerate(
        zip((0.5, 0.6, 0.7), STAGE_DEVIATIONS, (1, 0.5, 0.25), strict=True)
    ):
        boxes, image = regions(vectors[f"s{stage}_rois"])
        coder = DeltaCoder(deviations)
        head = head_of(vectors, f"w_{stage}.", int(vectors["num_classes"]))
        found = read_by(head, maps, strides, boxes, image, coder)
        matched = ProposalMatcher(positive)(listed([boxes[image == number] for number in (0, 1)]), targets)
        parts = region_losses(found, targets, matched, coder=coder, smoothness=1.0, reduce_sum=single_process)
        total |= {f"s{stage}_loss_cls": weight * parts["classification"], f"s{stage}_loss_bbox": weight * parts["box"]}
    for name, value in total.items():
        torch.testing.assert_close(value, tensor(vectors[f"loss_{name}"]), rtol=1e-5, atol=0)


def test_scores_of_a_cascade_are_those_of_the_mean_logits() -> None:
    boxes = torch.zeros(1, 1, 4)
    stages = [
        RegionPredictions(Candidates(own=boxes), torch.tensor([[[*logits]]]), boxes, DeltaCoder(), activation="softmax")
        for logits in ((2.0, 0.0), (0.0, 0.0), (1.0, 0.0))
    ]
    for by_probability, expected in ((False, 0.731059), (True, 0.703952)):
        score = averaged(stages, probabilities=by_probability).scores()
        torch.testing.assert_close(score, torch.tensor([[[expected]]]), atol=1e-6, rtol=0)
