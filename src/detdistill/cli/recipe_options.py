"""What the verbs that take a recipe have in common: its file, options for some keys, and `--KEY VALUE` for all."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from detdistill.cli.source import DATA, DATASET

if TYPE_CHECKING:
    from detdistill.training.recipe import Recipe


@dataclass(frozen=True)
class RecipeOptions:
    """A recipe's file and changes of it."""

    recipe: Annotated[Path | None, Parameter(help="Recipe (YAML). Default: all keys have their defaults.")] = None
    _: KW_ONLY
    data: Annotated[str | None, Parameter(help=f"{DATA} In the recipe: data.path.", group=DATASET)] = None
    images: Annotated[
        str | None,
        Parameter(help="Image folder of training and validation (data.train_images, data.val_images).", group=DATASET),
    ] = None
    follow_links: Annotated[
        bool, Parameter(help="Follow symbolic links that lead out of the dataset's folder.", group=DATASET)
    ] = False
    accept_left_out: Annotated[
        bool,
        Parameter(
            help="Accept that more than a tenth of a part's annotations is unreadable or invalid.", group=DATASET
        ),
    ] = False
    rescale: Annotated[
        bool, Parameter(help="Rescale boxes whose annotated image size differs from the file's.", group=DATASET)
    ] = False
    overrides: Annotated[tuple[tuple[str, str], ...], Parameter(parse=False)] = ()

    def read(self) -> Recipe:
        """Return the recipe of the file and the options.

        Raises:
            SettingsError: The file cannot be read, or a key or value is wrong.
        """
        from detdistill.cli.overrides import with_overrides
        from detdistill.training.recipe_file import merged, read_values, recipe_of

        values = {} if self.recipe is None else read_values(self.recipe)
        values = with_overrides(merged(values, self._changes()), self.overrides)
        return recipe_of(values, "the recipe" if self.recipe is None else str(self.recipe))

    def _changes(self) -> dict[str, Any]:
        """The keys that the options set."""
        flags = {name: True for name in ("follow_links", "accept_left_out", "rescale") if getattr(self, name)}
        places = {"path": self.data, "train_images": self.images, "val_images": self.images}
        data = {**flags, **{key: value for key, value in places.items() if value is not None}}
        return {"data": data} if data else {}


@dataclass(frozen=True, kw_only=True)
class DistillOptions(RecipeOptions):
    """The same, with a teacher."""

    teacher: Annotated[
        list[str] | None,
        Parameter(
            help="Folder of a detector (trained, distilled, imported, or of transformers), hf://owner/name, stored "
            "detections, or python:package.module:function (distill.teacher). Given several times, the boxes of all "
            "teachers are joined."
        ),
    ] = None
    unlabelled: Annotated[
        list[str] | None,
        Parameter(
            help="Images without annotations that take part in training: a folder, a pattern, a text file that lists "
            "images, or a dataset (distill.unlabelled.images). Can be given several times."
        ),
    ] = None
    accept_teacher: Annotated[
        bool, Parameter(help="Train although the teacher finds next to nothing on the validation images.")
    ] = False
    terms: Annotated[
        str | None, Parameter(help="Distillation terms, for example rank_mimicking,hint (distill.terms).")
    ] = None

    def _changes(self) -> dict[str, Any]:
        changes = super()._changes()
        given: dict[str, Any] = {"accept_teacher": True} if self.accept_teacher else {}
        if self.teacher:
            given["teacher"] = self.teacher[0] if len(self.teacher) == 1 else self.teacher
        if self.unlabelled:
            given["unlabelled"] = {"images": self.unlabelled[0] if len(self.unlabelled) == 1 else self.unlabelled}
        if self.terms is not None:
            given["terms"] = {name.strip(): {} for name in self.terms.split(",")}
        return {**changes, "distill": given} if given else changes
