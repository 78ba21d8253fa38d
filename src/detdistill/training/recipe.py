"""Everything that decides a training run. Readable without torch: the command line is made of it.

Field by field the same as a YAML file, as options, and in Python.
"""

from __future__ import annotations

from dataclasses import field
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from detdistill.core.bounds import Count, CountOrNone, Factor, Layers, PositiveFactor, Probability, Seed
from detdistill.core.errors import SettingsError
from detdistill.core.image_options import ImageOptions
from detdistill.core.settings import settings
from detdistill.core.teacher_size import SAME_SIZE
from detdistill.detectors.dense.architecture import Architecture, TorchvisionArchitecture
from detdistill.detectors.two_stage.two_stage_architecture import TorchvisionRcnnArchitecture, TwoStageArchitecture
from detdistill.training.distillation_settings import Distillation

Precision = Literal["auto", "float32", "bf16", "fp16"]
Threads = Literal["auto"] | Count
BatchNorm = Literal["train", "eval", "frozen", "sync"]
Strategy = Literal["auto", "single_device", "ddp"]
DetectorSettings = Annotated[
    Architecture | TorchvisionArchitecture | TwoStageArchitecture | TorchvisionRcnnArchitecture,
    Field(discriminator="kind"),
]
"""The layers of any detector that a recipe can name."""


@settings
class Data:
    """The annotated images."""

    path: str
    """Folder or annotation file of a dataset in COCO, PASCAL VOC, YOLO or CSV format."""
    train: str | None = "train"
    """Training set: name of a split, or annotation file or folder, from the working directory or from `path`."""
    val: str | None = "val"
    """Validation set, in the same form, by which the best checkpoint is chosen; null for no evaluation. Never report a
    score on it."""
    train_images: str | None = None
    """Image folder of the training set, where it is not recognised."""
    val_images: str | None = None
    """Image folder of the validation set, where it is not recognised."""
    follow_links: bool = False
    """Follow symbolic links that lead out of the dataset's folder."""
    difficult: bool = False
    """Train on objects marked `difficult` too. Otherwise background inside them is ignored."""
    cache: bool = False
    """Keep every decoded image in memory, once for each loading process."""
    accept_left_out: bool = False
    """Train although more than a tenth of the annotations is unusable, or lost by resizing."""
    rescale: bool = False
    """Rescale boxes whose annotated image size differs from the file's (images resized after annotation)."""


@settings
class Start:
    """The weights that training starts from; random ones unless something is given."""

    source: Annotated[str | None, Field(alias="from")] = None
    """Folder of a trained, distilled or imported detector: everything that fits is loaded, class rows by name. In
    Python: `source`."""
    backbone: str | None = None
    """ImageNet weights for the backbone: a local file; `timm` downloads timm's; `lite0` loads those of
    EfficientNet-Lite0 from the extra `lite0`, for the backbone tf_efficientnet_lite0."""
    frozen_stages: Layers = 0
    """Stages of the backbone that are not trained: all up to its map of stride 2 * 2^n; for ResNets 1 is the stem and
    the first stage, as in mmdetection. 0 trains everything."""
    batch_norm: BatchNorm = "train"
    """`train` normalises by the batch; `eval` by the stored statistics; `frozen` also keeps scale and shift as they
    are; `sync` normalises by the batch of all processes (GPUs only)."""


@settings
class Optimization:
    """How a gradient changes the weights. Norms, biases and scales are never decayed."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum, or AdamW."""
    learning_rate: PositiveFactor = 0.01
    """Highest learning rate, for `batch_size` images a step."""
    backbone_factor: Factor = 1.0
    """Learning rate of the backbone, relative to the rest."""
    momentum: Probability = 0.9
    """Momentum of SGD."""
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    """Coefficients of AdamW's two averages."""
    weight_decay: Factor = 1e-4
    """Weight decay of convolutions and linear layers."""
    clip_norm: PositiveFactor | None = 35.0
    """Largest norm of the whole gradient; null never clips."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the moving average of the weights, such as 0.9998, which is then what is evaluated and saved; null keeps
    no average. The decay grows from 0.1 as (1 + steps) / (10 + steps)."""


@settings
class Schedule:
    """The learning rate over time."""

    epochs: Count = 12
    """Number of epochs, that is, of passes over the training images."""
    warmup_steps: CountOrNone = 500
    """Steps in which the learning rate grows linearly to its full height; at most a tenth of the run."""
    warmup_factor: Factor = 0.001
    """Learning rate of the first step, relative to the full height."""
    decay: Literal["step", "cosine"] = "step"
    """`step` lowers the learning rate at `milestones`; `cosine` from the warm-up's end to the run's end."""
    milestones: tuple[CountOrNone, ...] = (8, 11)
    """Epochs after which `step` multiplies the learning rate by `gamma`."""
    gamma: Factor = 0.1
    """Factor of `step`."""
    final_factor: Factor = 0.0
    """Learning rate at the end of `cosine`, relative to the full height."""


@settings
class Evaluation:
    """Scores on the validation set while training; the detector with the best COCO AP is the one that is kept."""

    every: Count = 1
    """Epochs from one evaluation to the next; the last epoch is always evaluated."""
    batch_size: Count = 8
    """Images at a time, for each process."""
    patience: Count | None = None
    """Evaluations without a better AP after which training stops; null never stops early."""


@settings
class Machine:
    """Where and how fast a run is computed."""

    accelerator: str = "auto"
    """`cpu`, `gpu`, `mps` … as lightning-fabric names them; `auto` takes a GPU where there is one."""
    devices: Count = 1
    """Processes on each machine, each with a device of its own."""
    nodes: Count = 1
    """Number of machines."""
    strategy: Strategy = "auto"
    """`single_device` is one process, `ddp` several with a copy of the detector each; `auto` is what `devices` and
    `nodes` need. Others are not offered: a detector fits on one device."""
    workers: CountOrNone = 2
    """Processes that load images, for each training process. Their number changes nothing in the result."""
    precision: Precision = "auto"
    """Precision of the network; `bf16` and `fp16` are mixed, the weights stay float32. `auto` measures a few steps
    before training: `bf16` where it is faster and safe, else `float32`."""
    threads: Threads = "auto"
    """Processor threads of each training process. `auto` measures a few steps before training. The number changes how
    sums are rounded; a resumed run keeps its own."""
    channels_last: bool = True
    """Store images with the channels innermost; faster for most convolutions."""


@settings
class Logging:
    """What a run writes during training, beside `metrics.jsonl`."""

    every: Count = 50
    """Steps from one line of numbers to the next."""
    save_every: Count | None = None
    """Steps from one resumable checkpoint to the next; one is written after every epoch in any case."""
    loggers: tuple[str, ...] | dict[str, dict[str, Any]] = ()
    """Further places for the same numbers: `tensorboard`, `csv`, or the import path of a class with the methods of
    lightning-fabric's `Logger`; with its options, where it needs some:
    `{pytorch_lightning.loggers.WandbLogger: {project: boxes}}`."""
    page: bool = True
    """Write `run.html` into the run folder after every epoch: curves, scores by class, confused classes, images."""

    @property
    def options_of_loggers(self) -> dict[str, dict[str, Any]]:
        """The options of each logger by its name."""
        return self.loggers if isinstance(self.loggers, dict) else {name: {} for name in self.loggers}


@settings
class Recipe:
    """A training run; with a `distill` section, one in which the detector learns from a teacher too.

    Raises:
        SettingsError: An unknown key, a value of another type or out of range, or values that do not go together.
    """

    data: Data
    """The annotated images."""
    detector: DetectorSettings = field(default_factory=Architecture)
    """The layers."""
    images: ImageOptions = field(default_factory=ImageOptions)
    """Image size, and how images are varied."""
    start: Start = field(default_factory=Start)
    """The weights to start from."""
    batch_size: Count = 16
    """Images per step, over all processes."""
    accumulate: Count = 1
    """Parts that each process cuts its share of a batch into, to need less memory: the step is that of the whole batch,
    normalisers included, at the price of a second forward pass."""
    optimization: Optimization = field(default_factory=Optimization)
    """The optimiser."""
    schedule: Schedule = field(default_factory=Schedule)
    """The learning rate over time."""
    evaluation: Evaluation = field(default_factory=Evaluation)
    """Scores while training."""
    machine: Machine = field(default_factory=Machine)
    """Devices, processes, precision."""
    logging: Logging = field(default_factory=Logging)
    """What is written during training."""
    seed: Seed = 0
    """Random seed."""
    distill: Distillation | None = None
    """Teacher and distillation terms; null trains without a teacher."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        parts = self.machine.devices * self.machine.nodes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size must be a multiple of {parts} (machine.devices {self.machine.devices} * machine.nodes "
                f"{self.machine.nodes} * accumulate {self.accumulate}), not {self.batch_size}"
            )
        processes = self.machine.devices * self.machine.nodes
        if self.machine.strategy == "single_device" and processes > 1:
            raise ValueError(
                f"machine.strategy single_device is one process, and machine.devices {self.machine.devices} * "
                f"machine.nodes {self.machine.nodes} are {processes}: set machine.strategy auto or ddp"
            )
        if self.evaluation.patience is not None and self.data.val is None:
            raise ValueError(
                f"evaluation.patience {self.evaluation.patience} needs a validation set: set data.val, or "
                "evaluation.patience null"
            )
        unlabelled = None if self.distill is None else self.distill.unlabelled
        if unlabelled is not None and unlabelled.threshold == "auto" and self.data.val is None:
            raise ValueError(
                "distill.unlabelled.threshold auto needs a validation set: set data.val, or a number from 0 to 1"
            )
        self.teacher_ratio  # noqa: B018 (refuses sizes that are not in one ratio)
        return self

    @property
    def distillation(self) -> Distillation:
        """The `distill` section.

        Raises:
            SettingsError: There is none.
        """
        if self.distill is None:
            raise SettingsError(
                "the recipe has no distill section, so there is no teacher: add `distill: {teacher: FOLDER}` "
                "(--distill.teacher FOLDER), or train without a teacher (`detdistill train`)"
            )
        return self.distill

    @property
    def unlabelled_share(self) -> float:
        """Share of each batch that unlabelled images fill; 0 without such images."""
        unlabelled = None if self.distill is None else self.distill.unlabelled
        return 0.0 if unlabelled is None else unlabelled.share

    @property
    def teacher_ratio(self) -> Fraction:
        """How many times larger the teacher's images are than the student's.

        Raises:
            SettingsError: There is no one number.
        """
        own = None if self.distill is None else self.distill.teacher_images
        return SAME_SIZE if own is None else own.ratio(self.images)

    @property
    def images_per_process(self) -> int:
        """Images per step of each process."""
        return self.batch_size // (self.machine.devices * self.machine.nodes)
