"""A training run from recipe to run folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import is_first_process
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.files import write_atomically
from detdistill.core.quiet import quiet
from detdistill.core.seeds import derived_seed
from detdistill.detectors.base import Detector
from detdistill.training.interruption import Interruption
from detdistill.training.keeping import DurableCheckpointIO, Keeping
from detdistill.training.learner import Learner, Supervision
from detdistill.training.machine import asking_for, check_device
from detdistill.training.materials import open_training_data, starting_detector
from detdistill.training.module import DetectorTraining
from detdistill.training.progress_line import ProgressLine
from detdistill.training.recipe import DetectorSettings, Precision, Recipe
from detdistill.training.recipe_file import recipe_from
from detdistill.training.run_folder import RunFolder

PRECISIONS: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


@dataclass(frozen=True)
class Summary:
    """A finished run.

    Attributes:
        epochs: that were trained.
        steps: of the optimiser.
        AP: COCO's, of the detector that was kept, on the validation set, 0 to 1; None without one.
        best_epoch: the epoch that it comes from; None without a validation set: then it is the last.
        seconds: that this process took, from the last resumption on.
        teacher_ap: the teacher's AP on the validation set, 0 to 1; None without one.
    """

    epochs: int
    steps: int
    AP: float | None
    best_epoch: int | None
    seconds: float
    teacher_ap: float | None = None


def train(
    data_or_recipe: str | PathLike[str] | Recipe,
    out: str | PathLike[str],
    *,
    detector: Detector | DetectorSettings | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Summary:
    """Train a detector.

    The folder gets `recipe.yaml`, `model.safetensors` and `model.json` (`detdistill.load` reads them),
    `metrics.jsonl`, `summary.json`, and `resume/`, from which the same call goes on after an interruption.

    Args:
        data_or_recipe: Dataset (COCO, PASCAL VOC, YOLO or CSV), for a recipe with defaults, or a `Recipe`.
        out: Folder of the run; an interrupted run of the same recipe is resumed, a finished one stays as it is.
        detector: The recipe's `detector` section, or a detector of your own, with the weights that it starts from,
            instead of the one that the sections `detector` and `start` describe.
        resume: Resume although the recipe changed (compatible changes only).
        overwrite: Delete the existing run and start over.
        **settings: Sections and values of the recipe, for example `schedule={"epochs": 3}, batch_size=8`.

    Returns:
        The summary of the finished run.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; the same call goes on.
        DivergedError: a loss is not finite.
        SettingsError: An unknown key or a wrong value, or a recipe with a `distill` section.
        DetdistillError: the data or the folder cannot be used, or memory or disk do not suffice.
    """
    own: Any = detector if isinstance(detector, nn.Module) else None  # `check_detector` says what it lacks
    if detector is not None and own is None:
        settings["detector"] = detector
    recipe = recipe_from(data_or_recipe, settings)
    if recipe.distill is not None:
        raise SettingsError(
            f"the recipe has a distill section (distill.teacher {recipe.distill.teacher}): use `detdistill distill` "
            "(Python: detdistill.distill), or train without a teacher (distill: null)"
        )

    def lesson(learning: Detector, *_: object) -> Lesson:
        learner = Supervision(learning, channels_last=recipe.machine.channels_last)
        return Lesson(learner, lambda: {"made_by": "training"})

    return fit(recipe, out, lesson, detector=own, resume=resume, overwrite=overwrite)


@dataclass(frozen=True)
class Lesson:
    """What is learnt in a run.

    Attributes:
        learner: around the detector.
        origin: tells where what the detector knows comes from, for `model.json`.
        teacher_score: COCO's AP of the teacher on a data set, 0 to 1; None without a teacher.
    """

    learner: Learner
    origin: Callable[[], Mapping[str, Any]]
    teacher_score: Callable[[DetectionDataset], float | None] | None = None


LessonOf = Callable[[Detector, DetectionDataset, DetectionDataset | None], Lesson]
"""Makes the lesson of a detector that starts to learn from a training set, with a validation set if there is one."""


def fit(
    recipe: Recipe,
    folder: str | PathLike[str],
    lesson_of: LessonOf,
    *,
    detector: Detector | None,
    resume: bool,
    overwrite: bool,
) -> Summary:
    """Trains a detector by the lesson that is made for it; everything else as in `train`."""
    if resume and overwrite:
        raise DetdistillError("--resume goes on with a run and --overwrite throws it away: give one of them")
    run = RunFolder(Path(folder).absolute())
    # Other processes of the same run start at the same time, or are started by this one.
    if not is_first_process():
        return _fit(recipe, run, lesson_of, detector, overwrite=overwrite)
    with run.held():
        run.prepare(recipe, resume=resume, overwrite=overwrite)
        return _fit(recipe, run, lesson_of, detector, overwrite=overwrite)


def _fit(recipe: Recipe, run: RunFolder, lesson_of: LessonOf, own: Detector | None, *, overwrite: bool) -> Summary:
    started = time.monotonic()
    if not overwrite and run.is_finished(recipe):
        return Summary(**json.loads(run.summary.read_text(encoding="utf-8")))
    is_first = is_first_process()
    checkpoint = run.checkpoint if run.checkpoint.exists() and not overwrite else None
    dataset, validation = open_training_data(recipe.data, recipe.images, use_cache=checkpoint is None)
    torch.manual_seed(derived_seed(recipe.seed, "weights"))
    detector = starting_detector(recipe, dataset.classes, own)
    if recipe.start.batch_norm == "sync" and recipe.images_per_process < recipe.batch_size:
        # timm's knows its own batch norms, which hold an activation; torch's and pytorch-lightning's would lose it.
        convert: Callable[[nn.Module], nn.Module] = convert_sync_batchnorm
        convert(detector)
    lesson = lesson_of(detector, dataset, validation)
    module = DetectorTraining(lesson.learner, dataset, recipe)
    if is_first:
        run.forget_after(0 if checkpoint is None else _saved_step(checkpoint, dataset))
    interruption = Interruption()
    keeping = Keeping(run, validation, interruption, lesson.origin, lesson.teacher_score)
    # It tells of devices and gives advice that does not fit here.
    with quiet("pytorch_lightning", "lightning_fabric", warnings_from="pytorch_lightning|lightning_fabric"):
        with asking_for(recipe.machine):
            trainer = Trainer(
                accelerator=recipe.machine.accelerator,
                devices=recipe.machine.devices,
                num_nodes=recipe.machine.nodes,
                strategy=recipe.machine.strategy,
                precision=PRECISIONS[recipe.machine.precision],
                max_epochs=recipe.schedule.epochs,
                logger=_loggers(recipe, run.path),
                callbacks=[interruption, ProgressLine(), keeping],
                plugins=[DurableCheckpointIO()],
                default_root_dir=run.path,
                use_distributed_sampler=False,
                limit_val_batches=0,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        check_device(recipe, trainer.strategy.root_device, detector)
        with _memory_errors(), closing(module):
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    best = keeping.best if validation is not None else None
    summary = Summary(
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        AP=best and best[0],
        best_epoch=best and best[1],
        teacher_ap=keeping.teacher_ap,
        seconds=round(time.monotonic() - started, 1),
    )
    if is_first:
        write_atomically(run.summary, json.dumps(asdict(summary), indent=2) + "\n")
    # The others return no sooner than there is what they may read.
    trainer.strategy.barrier()
    return summary


def _saved_step(checkpoint: Path, dataset: DetectionDataset) -> int:
    """The step after which a checkpoint was written.

    Raises:
        DetdistillError: it is damaged, or of a run on other data.
    """
    try:
        state = torch.load(checkpoint, map_location="meta", weights_only=True)
    except Exception as error:  # torch raises anything for a damaged file
        raise DetdistillError(
            f"{checkpoint} cannot be read ({str(error).splitlines()[0]}): copy the run folder again, or start anew "
            "(--overwrite)"
        ) from error
    if state["data_sha256"] != dataset.fingerprint:
        raise DetdistillError(
            f"{dataset.source} is not what this run was started on: its images or annotations have changed; start "
            "anew in another folder, or here (--overwrite)"
        )
    step: int = state["global_step"]
    return step


def _loggers(recipe: Recipe, folder: Path) -> list[Logger]:
    made: dict[str, type[TensorBoardLogger] | type[CSVLogger]] = {"tensorboard": TensorBoardLogger, "csv": CSVLogger}
    return [made[name](folder, name=name, version="") for name in recipe.logging.loggers]


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        is_short = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not is_short:
            raise
        raise DetdistillError(
            f"out of memory ({str(error).splitlines()[0]}). Lower, in this order: accumulate higher (parts of a batch, "
            "the same result), machine.precision bf16, images.short_side and long_side (or letterbox), batch_size"
        ) from error
