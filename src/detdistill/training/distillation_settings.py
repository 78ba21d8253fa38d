"""The `distill` section of a recipe: the teacher, what is learned from it, and on which images."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from detdistill.core.bounds import CountOrNone, PositiveFactor, Probability
from detdistill.core.settings import settings
from detdistill.core.teacher_size import TeacherSize

DEFAULT_TERMS = ("rank_mimicking", "prediction_guided")
"""The two methods of the paper."""


@settings
class Unlabelled:
    """Images without annotations: what the teacher finds in them are their objects."""

    images: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """Image folder, subfolders included; pattern such as `shots/*.jpg`; text file that lists images; annotation file of
    a dataset, whose annotations are ignored; or a list of several of them."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of each batch that these images fill. An epoch stays one pass over the annotated images."""
    threshold: Literal["auto"] | Probability | dict[str, Probability] = "auto"
    """Score from which a box of the teacher is an object; `auto` takes that of the best F1 of each class on the
    validation images; or one number, or one for each class by its name. Boxes between 0.05, or the teacher's floor
    where that is higher, and the threshold are ignored: neither objects nor background."""
    pseudo_labels: bool = True
    """The detection loss learns these objects too; otherwise the terms alone do."""
    weight: PositiveFactor = 1.0
    """Weight of the detection loss of these images. It has a normaliser of its own."""
    check_copies: bool = True
    """Leave out near-duplicates of validation and test images, with which the student would learn what it is scored
    on."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The places of the images."""
        return (self.images,) if isinstance(self.images, str) else self.images


@settings
class Distillation:
    """What the detector learns from a teacher, beside the annotations."""

    teacher: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """Folder of a trained, distilled or imported detector, of an imported ONNX file, or of a detector of transformers;
    `hf://owner/name`; stored detections (a folder, or COCO-results JSON); `python:package.module:function`; or a list
    of several, whose boxes are joined by NMS within each class."""
    terms: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in DEFAULT_TERMS})
    """Distillation terms: the options of each method by its name, `{}` for its defaults; none only where pseudo-labels
    of unlabelled images are all that is learned. Beside the method's own there are `weight` (a number, `auto`, or
    `paper` for a published one), `ratio` (instead of the one below), `decay` (`none`, `linear`, `cosine`: to 0 over the
    run) and `ramp` (share of the run in which the weight rises from 0)."""
    weight: Literal["auto", "paper"] = "auto"
    """Weight of every term that does not say: `auto` finds it in the first steps, so that the term's gradient is
    `ratio` times as long as the detection loss's; `paper` takes the published one."""
    ratio: PositiveFactor | None = None
    """Ratio of the two gradients' lengths, of every term that does not say; null takes each method's own: 0.5, and 2
    for `prediction_guided`."""
    class_map: dict[str, str] = field(default_factory=dict)
    """Classes of the teacher that mean a class of the data under another name, `{car: vehicle}`. Names are read as they
    are written, also `0`, `1.50`, `no` or `on`."""
    memory: CountOrNone = 0
    """MiB of main memory, for each process, in which the teacher's outputs are kept: an image that comes again pixel by
    pixel is not shown to it again. Where images vary by a flip alone, each comes in two forms; where their scale or
    colours vary, none ever comes again. 0 keeps nothing."""
    init_from_teacher: tuple[Literal["pyramid", "head"], ...] = ()
    """Parts of the student, `pyramid` and `head`, that start as a copy of the teacher's, as far as shapes agree."""
    teacher_weights: tuple[PositiveFactor, ...] = ()
    """Weights of several teachers' scores in the NMS that joins their boxes; empty for equal ones."""
    teacher_images: TeacherSize | None = None
    """Size of the teacher's images where it is not the student's: that of `images` times one ratio. Both get the same
    part of the original pixels. Example: `{short_side: 192}` for students with `images.short_side` 96. null gives the
    teacher the student's images. Without effect for stored detections."""
    accept_teacher: bool = False
    """Train although the teacher finds next to nothing on the validation images."""
    unlabelled: Unlabelled | None = None
    """Images without annotations that take part in each batch; null for none."""

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        if not self.terms and (self.unlabelled is None or not self.unlabelled.pseudo_labels):
            raise ValueError(
                "terms is empty, so that nothing is learned from the teacher; expected at least one term, or "
                "unlabelled images with pseudo_labels true"
            )
        return self

    @property
    def teachers(self) -> tuple[str, ...]:
        """The teachers, of which there is mostly one."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher
