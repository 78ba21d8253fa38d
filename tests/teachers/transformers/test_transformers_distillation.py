"""Students that learn from detectors of transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.structures import IGNORED
from detdistill.detectors.storage import read_description
from detdistill.distill.class_map import identical_classes
from detdistill.distill.distiller import Distiller
from detdistill.distill.grid_correspondence import GridCorrespondence, grid_correspondence
from detdistill.distill.term import Term
from detdistill.distill.terms import TERMS
from detdistill.distill.weighting import Weight
from detdistill.teachers.loading import origin_of
from detdistill.teachers.teacher import TeacherBatch
from detdistill.teachers.transformers.transformers_teacher import TransformersTeacher
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import distill
from support.pairs import SIDE, batch
from support.small_runs import small_recipe, write_boxes
from support.tiny_detector import tiny_detector
from support.transformers_models import CLASSES, save

Loaded = Callable[[str], TransformersTeacher]


def distiller(teacher: TransformersTeacher, **options: dict[str, Any]) -> Distiller:
    """A student of 128 x 128 pixels, with terms of weight 1."""
    student = tiny_detector(classes=CLASSES[::-1])
    student.input = InputSpec(size=ImageSize(letterbox=SIDE))
    terms: dict[str, Term] = {name: TERMS[name](**given) for name, given in options.items()}
    return Distiller(student.train(), teacher, terms, weights={name: Weight(1.0) for name in terms})


@pytest.mark.parametrize(
    ("family", "terms"),
    [
        ("rt_detr", ("rank_mimicking", "soft_label", "prediction_guided")),
        pytest.param("d_fine", ("rank_mimicking", "soft_label", "prediction_guided"), marks=pytest.mark.slow),
        ("yolos", ("soft_label", "rank_mimicking")),
        ("detr", ("soft_label", "hint")),
        pytest.param("rf_detr", ("soft_label", "hint"), marks=pytest.mark.slow),
        pytest.param("deformable_detr", ("bounded_regression", "hint"), marks=pytest.mark.slow),
    ],
)
def test_a_student_learns_every_term(family: str, terms: tuple[str, ...], loaded: Loaded) -> None:
    learner = distiller(loaded(family), **{name: {} for name in terms})
    images, targets = batch([0, 1], [2])
    losses = learner(images, targets)
    weights = [weight for weight in learner.student.parameters() if weight.requires_grad]
    for name in terms:
        assert losses[name].isfinite()
        assert losses[name] > 0
        found = torch.autograd.grad(losses[name], weights, retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in found)
    assert any("preprocessor_config.json" in note for note in learner.notes)


def test_opinions_may_be_chosen_of_a_teacher_with_a_grid(loaded: Loaded) -> None:
    learner = distiller(loaded("rt_detr"), soft_label={"source": "opinion", "where": "all"})
    assert learner(*batch([0, 1], [2]))["soft_label"] > 0
    assert any("overlap" in note for note in learner.notes)


def test_terms_on_maps_are_refused_of_a_teacher_without_maps(loaded: Loaded) -> None:
    with pytest.raises(DetdistillError, match=r"hint cannot be used: the teacher offers no features"):
        distiller(loaded("yolos"), hint={})
    with pytest.raises(DetdistillError, match=r"prediction_guided cannot be used: the teacher offers no grid"):
        distiller(loaded("detr"), prediction_guided={})


def test_a_cell_that_the_teacher_masks_is_ignored_whatever_the_students_assigner_thinks(
    processed: Callable[..., TransformersTeacher],
) -> None:
    """An object in the corner of a 416 px image: cells of the outer ring are its positives, and are not compared."""
    side = 416
    teacher = processed("rt_detr", size={"height": side, "width": side})
    student = tiny_detector("fcos", classes=CLASSES)
    images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    _, targets = batch([0], padded=False)
    targets = replace(targets, boxes=torch.tensor([[0.0, 0.0, 30.0, 30.0]]), sizes=torch.tensor([[side, side]]))
    guidance = teacher.guide(TeacherBatch(images, targets.sizes, teacher.offers))
    with torch.no_grad():
        output = student(student.input.normalization(images, targets.sizes))
    matches = student.match(output, targets)
    strides = output.predictions.grid.strides, guidance.dense.predictions.grid.strides
    way = grid_correspondence(strides[0], strides[1], identical_classes(CLASSES))
    view = way(output, guidance, matches, targets)
    exists = view.teacher.predictions.candidates.valid
    assert exists is not None
    masked = (~exists)[0].nonzero().flatten()
    assert len(masked) == 4 * (side // 8 - 1)
    assert (view.assignment.matched[0, masked] == IGNORED).all()
    before = matches[output.final].matched[0, : view.assignment.matched.shape[1]]
    assert (before[masked] >= 0).any()
    assert torch.equal(view.assignment.matched[exists], before[exists[0]])


def test_cells_beyond_an_image_are_ignored_on_resampled_levels_too(loaded: Loaded) -> None:
    """The student's stride 8 beside the teacher's stride 16: a cell takes the validity of the nearest one."""
    teacher, student = loaded("rt_detr"), tiny_detector("fcos", classes=CLASSES)
    images, targets = batch([0], [1])
    guidance = teacher.guide(TeacherBatch(images, targets.sizes, teacher.offers))
    with torch.no_grad():
        output = student(student.input.normalization(images, targets.sizes))
    matches = student.match(output, targets)
    view = GridCorrespondence(identical_classes(CLASSES), ((0, 1),))(output, guidance, matches, targets)
    ignored = (view.assignment.matched == IGNORED).view(2, SIDE // 8, SIDE // 8)
    assert not ignored[0].any()
    assert ignored[1, :, 96 // 8 :].all()
    assert not ignored[1, :, : 96 // 8].any()


@pytest.mark.slow
def test_a_run_is_taught_by_a_folder_and_resumed_with_the_same_one_only(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    data = write_boxes(tmp_path / "data")
    folder = save(tmp_path / "teacher", "rt_detr", ("green", "red"))
    terms: dict[str, Any] = {"rank_mimicking": {}, "soft_label": {"source": "opinion"}, "prediction_guided": {}}
    options = {"terms": terms, "accept_teacher": True}
    distill(small_recipe(data, epochs=1), str(folder), tmp_path / "run", distill=options)
    origin = read_description(tmp_path / "run").provenance["teacher"]
    assert origin == origin_of(str(folder))
    recipe = read_recipe(tmp_path / "run" / "recipe.yaml")
    longer = replace(recipe, schedule=replace(recipe.schedule, epochs=2))
    assert distill(longer, None, tmp_path / "run", resume=True).epochs == 2
    config = folder / "preprocessor_config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(DetdistillError, match="teacher"):
        distill(replace(recipe, schedule=replace(recipe.schedule, epochs=3)), None, tmp_path / "run", resume=True)
