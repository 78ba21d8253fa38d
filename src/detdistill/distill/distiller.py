"""The distiller: a student, what it is taught by, and what both are compared in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detdistill.core.bounds import LARGEST_SIDE
from detdistill.core.errors import DetdistillError
from detdistill.core.modules import Held, untouched
from detdistill.core.offers import BOX_OFFERS, Offer
from detdistill.core.output import Output
from detdistill.core.structures import ReduceSum, Targets, single_process
from detdistill.core.suggestions import did_you_mean
from detdistill.core.teacher_size import SAME_SIZE
from detdistill.detectors.base import Detector
from detdistill.detectors.running import output_of
from detdistill.distill.class_map import ClassMap
from detdistill.distill.compared import DETECTION, Compared
from detdistill.distill.memory import TeacherMemory
from detdistill.distill.methods import working_terms
from detdistill.distill.pseudo_labels import PseudoLabels
from detdistill.distill.teacher_scale import TeacherScale
from detdistill.distill.term import Pair, Term, missing
from detdistill.distill.view import Correspondence
from detdistill.distill.ways import usual_correspondences, ways_of
from detdistill.distill.weighting import Weight, Weighting
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.teacher import Guidance, Teacher

EXAMPLE_PHOTOGRAPH = 480, 640
"""Height and width in pixels of the photograph for whose canvas the two detectors are first compared."""
EXAMPLE_CANVAS = 256, 256
"""Height and width in pixels of that canvas for a student that does not know its image size."""


class Distiller(nn.Module):
    """A student that learns from ground truth and, through terms, from a teacher.

    Its parameters are the student's and the terms' adapters; the teacher is no part of it: neither of its parameters
    nor of its state; a deep copy has the same teacher. Weights that are found automatically need `begin_step` before
    each step and `end_step` after its backward pass.

    Args:
        student: is trained.
        teacher: a detector is put into evaluation mode, gets no gradient and is never changed.
        terms: by name, which is also the name of their loss; they are bound to the pair here.
        weights: of the terms, by name; automatic, with the method's own ratio, where none is given.
        class_table: class names of the teacher that mean a class of the student under another name.
        channels_last: store images with the channels innermost.
        memory: of what the teacher predicted; without one it predicts again in every step.
        correspondences: ways to bring the two together; each term takes the first that offers what it needs. None for
            the cells that both have, and the teacher's opinions of the student's boxes, as far as it offers them.
        pseudo_labels: makes the objects of images that `Targets.labelled` says are not annotated.
        seed: of the adapters' first weights; no other random number is drawn.
        teacher_ratio: of the size of the teacher's images to the student's. With another one than 1 the targets of
            each batch have `teacher_images`.

    Attributes:
        student: the student.
        terms: the terms.
        weighting: how much each counts.
        notes: what was adapted so that the two can be compared, in plain words.
        raw: the terms' values in the last forward pass, before they were weighted: this process's share, without
            gradient.

    Raises:
        DetdistillError: teacher and student share weights, have no class or no level in common, a term cannot be used
            with them or has the name of a detection loss, or a weight is given for no term.
    """

    def __init__(
        self,
        student: Detector,
        teacher: Detector | Teacher,
        terms: Mapping[str, Term],
        *,
        weights: Mapping[str, Weight] | None = None,
        class_table: Mapping[str, str] | None = None,
        channels_last: bool = False,
        memory: TeacherMemory | None = None,
        correspondences: Sequence[Correspondence] | None = None,
        pseudo_labels: PseudoLabels | None = None,
        seed: int = 0,
        teacher_ratio: Fraction | float = SAME_SIZE,
    ) -> None:
        super().__init__()
        theirs = teacher.parameters() if isinstance(teacher, nn.Module) else ()
        shared = {id(parameter) for parameter in student.parameters()} & {id(each) for each in theirs}
        if shared:
            raise DetdistillError(
                f"teacher and student share {len(shared)} weights: frozen in the teacher, they would not be trained in "
                "the student either. Give a copy as the teacher (copy.deepcopy)"
            )
        weights = weights or {}
        unknown = [name for name in weights if name not in terms]
        if unknown:
            message = f"weights: there is no term {unknown[0]!r}; the terms are: {', '.join(terms) or 'none'}"
            raise DetdistillError(message + did_you_mean(message.partition(";")[0], terms))
        self.student = student
        self.terms = nn.ModuleDict(terms)
        self.raw: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._channels_last = channels_last
        self._memory = memory
        self._pseudo_labels = pseudo_labels
        self._scale = TeacherScale(Fraction(teacher_ratio).limit_denominator(LARGEST_SIDE))
        # A module as an attribute would become a part of this one: a teacher that is one is held.
        self._held = Held[Teacher](
            DetectorTeacher(teacher, channels_last=channels_last) if isinstance(teacher, Detector) else teacher
        )
        self._classes = ClassMap(student.classes, teacher.classes, class_table or {})
        self.notes = self._bind(correspondences, seed)
        self.weighting = Weighting({name: self._weight(name, weights.get(name, Weight())) for name in terms})

    @property
    def teacher(self) -> Teacher:
        """The teacher, which is not among the submodules."""
        teacher: Teacher = self._held.thing
        return teacher

    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum = single_process) -> dict[str, Tensor]:
        """The loss of a batch by name: the detection loss's terms, and each distillation term, weighted.

        Args:
            images: `(N, 3, H, W)` RGB, 0 to 255, padded to one size.
            targets: their objects, with the student's labels.
            reduce_sum: sums counts over processes.

        Raises:
            DetdistillError: weights are to be found automatically, and `begin_step` was never called.
        """
        weights = self.weights()
        guidance = None
        if self._memory is not None:
            asked = self._scale.batch(images, targets, self._wanted)
            guidance = self._scale.for_student(self._memory.guidance(asked, self.teacher.guide), images, targets)
        compared = self.compare(images, targets, reduce_sum, guidance)
        self.raw = {name: value.detach() for name, value in compared.terms.items()}
        if self.weighting.is_measuring and torch.is_grad_enabled():
            for name, square in compared.squared_lengths().items():
                self._squares[name] = self._squares.get(name, 0) + square
        return compared.detection | {name: weights[name] * value for name, value in compared.terms.items()}

    def compare(
        self,
        images: Tensor,
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
        guidance: Guidance | None = None,
    ) -> Compared:
        """Both detectors' view of a batch, and what is made of it.

        Args:
            images: as in `forward`; so are the next two.
            targets: their objects.
            reduce_sum: sums counts over processes.
            guidance: what the teacher predicts for the images; None lets it predict.
        """
        if guidance is None:
            # First: what the teacher needs on the way is free again before the student's activations pile up.
            guidance = self.guide(images, targets)
        pseudo = self._pseudo_labels
        if pseudo is not None:
            targets = pseudo.targets(targets, guidance, self._classes)
        output = self._output(images, targets)
        matches = self.student.match(output, targets)
        loss = self.student.loss if pseudo is None else partial(pseudo.loss, self.student)
        detection = loss(output, targets, matches, reduce_sum)
        views = tuple(way(output, guidance, matches, targets, reduce_sum) for way in self._ways.correspondences)
        terms = {}
        for name, term in self.terms.items():
            parts: list[dict[str, Tensor]] = [term(views[way]) for way in self._ways.of_term[name]]
            terms[name] = torch.stack([value for part in parts for value in part.values()]).sum()
        return Compared(output, detection, terms, views, matches, targets)

    def guide(self, images: Tensor, targets: Targets) -> Guidance:
        """What the teacher predicts for images, 0 to 255, in pixels of their canvas.

        Args:
            images: as in `forward`.
            targets: with the sizes of the images, what is stored, and the teacher's images where it has a size of its
                own.

        Raises:
            DetdistillError: the teacher's images are missing or too small.
        """
        asked = self._scale.batch(images, targets, self._wanted)
        return self._scale.for_student(self.teacher.guide(asked), images, targets)

    def begin_step(self, step: int, total: int, warmup: int) -> None:
        """Says where in the run the next step is; see `Weighting.begin_step`.

        Raises:
            DetdistillError: the step before was measured, but `end_step` was not called.
        """
        left, self._squares = self._squares, {}
        if left:
            raise DetdistillError(
                "begin_step was called again without end_step: call end_step after the backward pass of each step, or "
                "the weights of the terms cannot be found"
            )
        self.weighting.begin_step(step, total, warmup)

    def end_step(self, reduce_sum: ReduceSum = single_process) -> None:
        """Lets the weights learn from the step: all processes take the gradient of the joined batch."""
        if not self._squares:
            return
        measured, self._squares = self._squares, {}
        squares = reduce_sum(torch.stack(tuple(measured.values())))
        lengths = dict(zip(measured, squares.sqrt().tolist(), strict=True))
        self.weighting.measure(lengths.pop(DETECTION), lengths)

    def weights(self) -> dict[str, float]:
        """What each term is multiplied by in this step."""
        return {name: self.weighting.weight(name) for name in self.terms}

    def get_extra_state(self) -> dict[str, Any]:
        """The weights found so far: part of `state_dict()`, in plain types."""
        return self.weighting.state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes up the weights that a run before has found."""
        self.weighting.load(state)

    def _output(self, images: Tensor, targets: Targets) -> Output:
        return output_of(self.student, images, targets.sizes, channels_last=self._channels_last, targets=targets)

    def _weight(self, name: str, given: Weight) -> Weight:
        """A term's weight, with the method's own ratio where none is given."""
        if given.ratio is not None:
            return given
        method = _term(self.terms[name]).method
        way = self._ways.correspondences[self._ways.of_term[name][0]]
        return replace(given, ratio=method.opinion_ratio if "opinions" in way.offers else method.ratio)

    def _bind(self, correspondences: Sequence[Correspondence] | None, seed: int) -> list[str]:
        student, teacher = self.student, self.teacher
        for name, term in self.terms.items():
            lacking = missing(
                _term(term).method.student - student.offers,
                [need.offers - teacher.offers for need in _term(term).needs],
            )
            if lacking:
                working = ", ".join(working_terms(student.offers, teacher.offers)) or "none"
                raise DetdistillError(
                    f"{name} cannot be used: {lacking}. It needs {_term(term).method.needs}. Terms that work with this "
                    f"pair (--terms, distill.terms): {working}"
                )
        device = next(student.parameters()).device
        canvas = example_canvas(student)
        self._wanted: frozenset[Offer] = teacher.offers
        with untouched(student, seed=seed):
            images, nothing = self._scale.example(canvas, device)
            with torch.no_grad():
                student.eval()
                own, guidance = self._output(images, nothing), self.guide(images, nothing)
                matches = student.match(own, nothing)
                taken = {DETECTION, *student.loss(own, nothing, matches)} & self.terms.keys()
            if taken:
                raise DetdistillError(
                    f"a term may not be called {' or '.join(sorted(taken))}: that is the name of a loss of the "
                    "student's own; name it after its method"
                )
            why = ""
            if correspondences is None:
                correspondences, why = usual_correspondences(
                    own,
                    guidance,
                    teacher.offers,
                    self._classes,
                    student.input.size,
                    None if student.region_reader is None else teacher.region_reader,
                )
            self._ways = ways_of(
                {name: _term(term) for name, term in self.terms.items()},
                correspondences,
                why,
                # A size that the user chose must not change what a term compares.
                teacher.offers if self._scale.ratio != SAME_SIZE and guidance.output is not None else None,
            )
            self._wanted = self._ways.wanted | (BOX_OFFERS if self._pseudo_labels is not None else frozenset())
            notes = [*self._classes.notes(), *self._scale.notes(student.input)]
            for way in self._ways.correspondences:
                notes += [note for note in way.notes(own, guidance) if note not in notes]
            notes += teacher.notes(self._scale.input(student.input))
            for name, term in self.terms.items():
                with torch.no_grad():
                    way = self._ways.correspondences[self._ways.of_term[name][0]]
                    view = way(own, guidance, matches, nothing)
                pair = Pair(student, teacher, view.student, view.teacher, float(self._scale.ratio))
                try:
                    notes += [f"{name}: {note}" for note in _term(term).bind(pair)]
                except DetdistillError as error:
                    raise DetdistillError(f"{name} cannot be used: {error}") from error
                term.to(device)
        return notes


def example_canvas(student: Detector) -> tuple[int, int]:
    """Height and width of the canvas on which a pair is first compared: that of a photograph at the student's size."""
    spec = student.input
    if spec.canvas is not None:
        return spec.canvas
    return EXAMPLE_CANVAS if spec.size is None else spec.size.canvas_of(EXAMPLE_PHOTOGRAPH)


def _term(module: nn.Module) -> Term:
    """A member of the `ModuleDict`, which forgets that they are terms."""
    assert isinstance(module, Term)
    return module
