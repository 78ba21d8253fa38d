"""What a teacher reads in a distillation: stored boxes, the student's images, or images of a size of its own."""

from __future__ import annotations

from detdistill.core.image_options import ImageOptions
from detdistill.core.teacher_size import SAME_SIZE, at_ratio
from detdistill.data.teacher_inputs import TeacherInputs
from detdistill.teachers.joint_teacher import reads_images
from detdistill.teachers.teacher import Teacher
from detdistill.training.recipe import Recipe


def inputs_of(teacher: Teacher, recipe: Recipe) -> TeacherInputs:
    """Return what a training loader adds to each image for a teacher.

    Args:
        teacher: The teacher.
        recipe: With a `distill` section.
    """
    return TeacherInputs(teacher.stored, recipe.teacher_ratio if reads_images(teacher) else SAME_SIZE)


def images_of(teacher: Teacher, recipe: Recipe) -> ImageOptions:
    """Return the size of the images that a teacher is scored on; arguments as of `inputs_of`."""
    return at_ratio(recipe.images, inputs_of(teacher, recipe).ratio)
