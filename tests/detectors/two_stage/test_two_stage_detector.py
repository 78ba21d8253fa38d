from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.settings import from_values
from detdistill.core.structures import IGNORED, ReduceSum, Targets
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.initialization import initialize_from
from detdistill.detectors.two_stage.rcnn import PROPOSALS
from detdistill.detectors.two_stage.region_predictions import RegionPredictions
from detdistill.detectors.two_stage.two_stage_architecture import TwoStageArchitecture
from detdistill.detectors.two_stage.two_stage_detector import TwoStageDetector

KINDS = ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn"]
CLASSES = "cat", "dog"


def architecture(kind: str, **regions: object) -> TwoStageArchitecture:
    """As small as it gets."""
    values = {
        "kind": kind,
        "backbone_channels": [8, 8, 8, 8],
        "pyramid": {"channels": 8},
        "proposals": {"sampled": 16, "training_kept": 40, "kept": 30},
        "regions": {"channels": 16, "sampled": 12, **regions},
        "masks": {"convolutions": 1, "channels": 8},
    }
    return from_values(TwoStageArchitecture, values)


def detector(kind: str, **regions: object) -> TwoStageDetector:
    torch.manual_seed(0)
    return TwoStageDetector(architecture(kind, **regions), CLASSES)


def objects() -> Targets:
    boxes = torch.tensor([[8.0, 8, 60, 50], [50, 30, 90, 90]]), torch.tensor([[20.0, 10, 44, 60]])
    targets = Targets.from_images(boxes, [torch.tensor([0, 1]), torch.tensor([1])], torch.tensor([[96, 96], [80, 64]]))
    masks = torch.zeros(3, 96, 96, dtype=torch.uint8)
    masks[0, 10:40, 10:50], masks[2, 20:60, 20:30] = 1, 1  # the second object has no mask
    draws = Draws(seed=0, step=3, images=("a", "b"))
    return replace(targets, draws=draws, masks=InstanceMasks.of_bitmaps(masks))


def losses(model: TwoStageDetector, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:
    output = model(images, targets)
    return model.loss(output, targets, model.match(output, targets), reduce_sum)


@pytest.mark.parametrize("kind", KINDS)
def test_meets_the_contract(kind: str) -> None:
    check_detector(detector(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_in_two_parts_has_the_loss_of_the_whole(kind: str) -> None:
    model = detector(kind).train()
    model.backbone.eval()
    images, targets = torch.randn(2, 3, 96, 96), objects()
    counts: list[Tensor] = []

    def noted(value: Tensor) -> Tensor:
        counts.append(value)
        return value

    whole = losses(model, images, targets, noted)
    totals = iter(list(counts) * 2)
    parts = [
        losses(model, images[number : number + 1], targets.of_images(number, number + 1), lambda _: next(totals))
        for number in (0, 1)
    ]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value, atol=1e-6, rtol=1e-5)


def test_in_training_objects_are_among_the_proposals_and_few_learn() -> None:
    model, targets = detector("faster_rcnn").train(), objects()
    output = model(torch.randn(2, 3, 96, 96), targets)
    found = output.predictions
    assert isinstance(found, RegionPredictions)
    assert found.pool is not None
    assert found.place is not None
    assert found.learns is not None
    assert found.candidates.count <= 12
    assert torch.equal(found.candidates.boxes[0], found.pool.boxes[0].gather(0, found.place[0, :, None].expand(-1, 4)))
    matched = model.match(output, targets)["roi"].matched
    assert set(range(3)) <= set(matched[found.learns].tolist())  # each object's own box at least
    assert (matched[~found.learns] == IGNORED).all()


def test_in_evaluation_all_proposals_are_read_and_nothing_is_drawn() -> None:
    model = detector("faster_rcnn").eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        plain = model(images, Targets.without_objects(objects().sizes))
        known = model(images, objects())
    assert torch.equal(plain.predictions.logits, known.predictions.logits)
    boxes, valid = plain.predictions.candidates.own, plain.predictions.candidates.valid
    assert boxes is not None
    assert valid is not None
    assert (boxes[1, valid[1]] <= torch.tensor([64, 80, 64, 80])).all()  # the second image is smaller
    assert boxes[0].max() > 80


def test_stages_of_a_cascade_begin_with_the_boxes_of_the_one_before() -> None:
    model = detector("cascade_rcnn").eval()
    with torch.no_grad():
        output = model(torch.randn(1, 3, 96, 96))
        second = output.stages["roi2"]
        first = output.stages["roi1"].boxes().clamp(0, 96)
    assert torch.equal(second.candidates.boxes, first)
    assert list(output.stages) == [PROPOSALS, "roi1", "roi2", "roi3"]


def test_a_cascade_in_training_leaves_out_what_were_objects_and_adds_them_again() -> None:
    model, targets = detector("cascade_rcnn").train(), objects()
    output = model(torch.randn(2, 3, 96, 96), targets)
    for name in ("roi1", "roi2", "roi3"):
        found = output.stages[name]
        assert isinstance(found, RegionPredictions)
        assert found.pool is not None
        own = found.pool.objects[found.pool.valid]
        assert sorted(own[own >= 0].tolist()) == [0, 1, 2]


def test_class_boxes_are_those_of_the_class() -> None:
    model = detector("faster_rcnn").eval()
    with torch.no_grad():
        found = model(torch.randn(1, 3, 96, 96)).predictions
    place = torch.arange(found.candidates.count)
    image, last = torch.zeros_like(place), torch.ones_like(place)
    expected = found.coder.decode(found.candidates.boxes[0], last.float(), found.regression[0, :, 4:])
    torch.testing.assert_close(found.class_boxes((image, place, last)), expected)
    best = found.logits[0, :, :-1].argmax(dim=1)
    torch.testing.assert_close(found.boxes()[0], found.class_boxes((image, place, best)))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"kind": "faster_rcnn", "regions": {"size": 0}}, "regions.size"),
        ({"kind": "faster_rcnn", "proposals": {"iou_threshold": 2}}, "proposals.iou_threshold"),
        ({"kind": "faster_rcnn", "towers": {}}, "towers"),
        ({"kind": "cascade_rcnn", "regions": {"stages": [{"positive": -1}]}}, "regions.stages"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, object], field: str) -> None:
    with pytest.raises(SettingsError) as raised:
        from_values(TwoStageArchitecture, values)
    assert field in str(raised.value)


def test_a_backbone_without_the_level_is_refused() -> None:
    with pytest.raises(DetdistillError):
        TwoStageDetector(replace(architecture("faster_rcnn"), strides=(3, 8)), CLASSES)


def test_objects_without_a_mask_have_no_mask_loss() -> None:
    model, targets = detector("mask_rcnn").train(), objects()
    output = model(torch.randn(2, 3, 96, 96), targets)
    found = output.predictions
    assert isinstance(found, RegionPredictions)
    assert found.masks is not None
    known = found.masks.objects != 1
    assert not known.all()
    loss = model.loss(output, targets, model.match(output, targets))["mask"]
    (gradient,) = torch.autograd.grad(loss, found.masks.logits)
    assert gradient[known].any()
    assert not gradient[~known].any()


def test_detections_have_masks_of_their_class() -> None:
    model = detector("mask_rcnn").eval()
    with torch.no_grad():
        output = model(torch.randn(2, 3, 96, 96), Targets.without_objects(objects().sizes))
        found = model.detect(output, objects().sizes)
    assert model.has_masks
    first = found[0]
    assert len(first) > 1
    assert first.mask_probabilities is not None
    features = model.regions.masks
    assert features is not None
    image = torch.zeros(len(first), dtype=torch.int64)
    logits = model.mask_heads[0](features.features(output.features.maps, first.boxes, image))
    expected = logits[torch.arange(len(first)), first.labels].sigmoid()
    torch.testing.assert_close(first.mask_probabilities, expected)


def test_fine_tuning_keeps_the_rows_of_shared_classes() -> None:
    torch.manual_seed(1)
    source = TwoStageDetector(architecture("mask_rcnn"), ("bird", "dog", "cat"))
    model = detector("mask_rcnn")
    before = model.region_heads[0].get_parameter("box_predictor.weight").clone()
    report = initialize_from(model, source)
    assert report.kept_classes == CLASSES
    own, other = (
        dict(each.region_heads[0].named_parameters()) | dict(each.mask_heads[0].named_parameters())
        for each in (model, source)
    )
    assert torch.equal(own["class_predictor.weight"], other["class_predictor.weight"][[2, 1, 3]])
    rows = [*range(8, 12), *range(4, 8)]
    assert torch.equal(own["box_predictor.weight"], other["box_predictor.weight"][rows])
    assert not torch.equal(own["box_predictor.weight"], before)
    assert torch.equal(own["mask_predictor.bias"], other["mask_predictor.bias"][[2, 1]])
    assert torch.equal(model.proposal_head.box_predictor.weight, source.proposal_head.box_predictor.weight)


def test_boxes_of_all_classes_together_are_kept_whole() -> None:
    torch.manual_seed(1)
    source = TwoStageDetector(architecture("cascade_rcnn"), ("bird", "dog"))
    model = detector("cascade_rcnn")
    initialize_from(model, source)
    for own, other in zip(model.region_heads, source.region_heads, strict=True):
        assert torch.equal(own.get_parameter("box_predictor.weight"), other.get_parameter("box_predictor.weight"))
        assert not torch.equal(
            own.get_parameter("class_predictor.weight")[0], other.get_parameter("class_predictor.weight")[0]
        )
