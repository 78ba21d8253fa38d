"""Everything that decides a training run. Readable without torch: the command line is made of it.

Field by field the same as a YAML file, as flags, and in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from detdistill.core.class_names import class_table
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.detectors.dense.architecture import Architecture

Precision = Literal["float32", "bf16", "fp16"]
BatchNorm = Literal["train", "eval", "frozen", "sync"]
Logger = Literal["tensorboard", "csv"]


@dataclass(frozen=True)
class Data:
    """The annotated images.

    Attributes:
        path: Folder or annotation file of a dataset in COCO, PASCAL VOC, YOLO or CSV format.
        train: Training set: name of a split, or annotation file or folder, from the working directory or from `path`.
        val: Validation set, in the same form, by which the best checkpoint is chosen; None for no evaluation. Never
            report a score on it.
        train_images: Image folder of the training set, where it is not recognised.
        val_images: Image folder of the validation set, where it is not recognised.
        follow_links: Follow symbolic links that lead out of the dataset's folder.
        difficult: Train on objects marked `difficult` too. Otherwise background inside them is ignored.
        cache: Keep every decoded image in memory, once for each loading process.
        accept_left_out: Train although more than a tenth of the annotations is unusable, or lost by resizing.
        rescale: Rescale boxes whose annotated image size differs from the file's (images resized after annotation).
    """

    path: str
    train: str | None = "train"
    val: str | None = "val"
    train_images: str | None = None
    val_images: str | None = None
    follow_links: bool = False
    difficult: bool = False
    cache: bool = False
    accept_left_out: bool = False
    rescale: bool = False


@dataclass(frozen=True)
class Start:
    """The weights that training starts from; random ones unless something is given.

    Attributes:
        run: Folder of a trained, distilled or imported detector: everything that fits is taken over, class rows by
            name.
        backbone: ImageNet weights for the backbone: a local file; `timm` downloads timm's; `lite0` takes those of
            EfficientNet-Lite0 from the extra `lite0`, for the backbone tf_efficientnet_lite0.
        frozen_stages: The backbone stays as it is up to its map of stride 2 * 2^n; for ResNets 1 is the stem and the
            first stage, as in mmdetection. 0 trains everything.
        batch_norm: `train` normalises by the batch; `eval` by the stored statistics; `frozen` also keeps scale and
            shift as they are; `sync` normalises by the batch of all processes (GPUs only).
    """

    run: str | None = None
    backbone: str | None = None
    frozen_stages: int = 0
    batch_norm: BatchNorm = "train"


@dataclass(frozen=True)
class Optimization:
    """How a gradient changes the weights. Norms, biases and scales are never decayed.

    Attributes:
        optimizer: Stochastic gradient descent with momentum, or AdamW.
        learning_rate: At its highest, for `batch_size` images a step.
        backbone_factor: Learning rate of the backbone, relative to the rest.
        momentum: Of SGD.
        betas: Of AdamW.
        weight_decay: Of the weights of convolutions and linear layers.
        clip_norm: Largest norm of the whole gradient; None never clips.
        ema: Decay of the moving average of the weights, such as 0.9998, which is then what is evaluated and saved;
            None keeps no average. The decay grows from 0.1 as (1 + steps) / (10 + steps).
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    backbone_factor: float = 1.0
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    clip_norm: float | None = 35.0
    ema: float | None = None


@dataclass(frozen=True)
class Schedule:
    """The learning rate over time.

    Attributes:
        epochs: Times that every image is seen.
        warmup_steps: Steps in which the learning rate grows linearly to its full height; at most a tenth of the run.
        warmup_factor: Where it starts, relative to the full height.
        decay: `step` lowers it at `milestones`; `cosine` from the warm-up's end to the run's end.
        milestones: Epochs after which `step` multiplies it by `gamma`.
        gamma: Factor of `step`.
        final_factor: Where `cosine` ends, relative to the full height.
    """

    epochs: int = 12
    warmup_steps: int = 500
    warmup_factor: float = 0.001
    decay: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = (8, 11)
    gamma: float = 0.1
    final_factor: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """Scores on the validation set while training; the detector with the best COCO AP is the one that is kept.

    Attributes:
        every: Epochs from one to the next; the last epoch is always evaluated.
        batch_size: Images at a time, for each process.
        patience: Evaluations without a better AP after which training stops; None never stops early.
    """

    every: int = 1
    batch_size: int = 8
    patience: int | None = None


@dataclass(frozen=True)
class Machine:
    """Where and how fast a run is computed.

    Attributes:
        accelerator: `cpu`, `gpu` … as pytorch-lightning names them; `auto` takes a GPU where there is one.
        devices: Processes on each machine, each with a device of its own.
        nodes: Machines.
        strategy: pytorch-lightning's: `auto`, `ddp`, `fsdp` …
        workers: Processes that load images, for each training process. Their number changes nothing in the result.
        precision: Of the network; `bf16` and `fp16` are mixed, the weights stay float32.
        channels_last: Store images with the channels innermost; faster for most convolutions.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    workers: int = 2
    precision: Precision = "float32"
    channels_last: bool = True


@dataclass(frozen=True)
class Logging:
    """What a run writes while it goes on, beside `metrics.jsonl`.

    Attributes:
        every: Steps from one line of numbers to the next.
        save_every: Steps from one resumable checkpoint to the next; one is written after every epoch in any case.
        loggers: Further formats of the same numbers.
    """

    every: int = 50
    save_every: int | None = None
    loggers: tuple[Logger, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        data: The annotated images.
        detector: The layers.
        images: Image size, and how images are varied.
        start: The weights to start from.
        batch_size: Images per step, over all processes.
        accumulate: Parts that each process cuts its share of a batch into, to need less memory: the step is that of
            the whole batch, normalisers included, at the price of a second forward pass.
        optimization: The optimiser.
        schedule: The learning rate over time.
        evaluation: Scores while training.
        machine: Devices, processes, precision.
        logging: What is written on the way.
        seed: Of everything random.
    """

    data: Data
    detector: Architecture = field(default_factory=Architecture)
    images: ImageOptions = field(default_factory=ImageOptions)
    start: Start = field(default_factory=Start)
    batch_size: int = 16
    accumulate: int = 1
    optimization: Optimization = field(default_factory=Optimization)
    schedule: Schedule = field(default_factory=Schedule)
    evaluation: Evaluation = field(default_factory=Evaluation)
    machine: Machine = field(default_factory=Machine)
    logging: Logging = field(default_factory=Logging)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `DetdistillError` for a value out of range, or values that do not go together."""
        optimization, schedule, machine = self.optimization, self.schedule, self.machine
        processes = machine.devices * machine.nodes
        at_least_one = {
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "schedule.epochs": schedule.epochs,
            "evaluation.every": self.evaluation.every,
            "evaluation.batch_size": self.evaluation.batch_size,
            "machine.devices": machine.devices,
            "machine.nodes": machine.nodes,
            "logging.every": self.logging.every,
        }
        not_negative = {
            "start.frozen_stages": self.start.frozen_stages,
            "schedule.warmup_steps": schedule.warmup_steps,
            "machine.workers": machine.workers,
            "optimization.weight_decay": optimization.weight_decay,
            "optimization.backbone_factor": optimization.backbone_factor,
        }
        rules = {
            **{f"{key} must be at least 1, not {value}": value >= 1 for key, value in at_least_one.items()},
            **{f"{key} must not be negative, but is {value}": value >= 0 for key, value in not_negative.items()},
            "optimization.learning_rate must be above 0": optimization.learning_rate > 0,
            "optimization.clip_norm must be above 0, or null": optimization.clip_norm is None
            or optimization.clip_norm > 0,
            "optimization.ema must lie between 0 and 1, or be null": optimization.ema is None
            or 0 < optimization.ema < 1,
            "evaluation.patience must be at least 1, or null": self.evaluation.patience is None
            or self.evaluation.patience >= 1,
            "evaluation.patience needs a validation set (data.val)": self.evaluation.patience is None
            or self.data.val is not None,
            "logging.save_every must be at least 1, or null": self.logging.save_every is None
            or self.logging.save_every >= 1,
            f"batch_size {self.batch_size} must divide into {processes} processes times {self.accumulate} parts "
            "(machine.devices * machine.nodes * accumulate)": self.batch_size % max(processes * self.accumulate, 1)
            == 0,
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise DetdistillError("the recipe cannot be followed: " + "; ".join(broken))

    @property
    def images_per_process(self) -> int:
        """Images per step of each process."""
        return self.batch_size // (self.machine.devices * self.machine.nodes)


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(Recipe):
    """A training run in which the detector learns from a teacher too.

    Attributes:
        teacher: Folder of a trained, distilled or imported detector.
        terms: What is learnt from it: the options of each method by its name, `{}` for its defaults. Beside the
            method's own there are `weight` (a number, `auto`, or `paper` for a published one), `ratio` (instead of the
            one below) and `decay` (`none`, `linear`, `cosine`: to 0 over the run).
        weight: Of every term that does not say: `auto` finds it in the first steps, so that the term's gradient is
            `ratio` times as long as the detection loss's; `paper` takes the published one.
        ratio: Of the two gradients' lengths, of every term that does not say; null takes each method's own: 0.5, and 2
            for `prediction_guided`.
        class_map: Classes of the teacher that mean a class of the data under another name, `{car: vehicle}`. Names are
            taken as they are written, also `0`, `1.50`, `no` or `on`.
        teacher_memory: MiB of main memory, for each process, in which the teacher's outputs are kept: an image that
            comes again pixel by pixel is not shown to it again. Where images vary by a flip alone, each comes in two
            forms; where their scale or colours vary, none ever comes again. 0 keeps nothing.
        init_from_teacher: Parts of the student, `pyramid` and `head`, that start as a copy of the teacher's, as far as
            shapes agree.
    """

    teacher: str
    terms: dict[str, dict[str, Any]] = field(default_factory=lambda: {"rank_mimicking": {}, "prediction_guided": {}})
    weight: Literal["auto", "paper"] = "auto"
    ratio: float | None = None
    class_map: dict[str, str] = field(default_factory=dict)
    teacher_memory: int = 0
    init_from_teacher: tuple[Literal["pyramid", "head"], ...] = ()

    def __post_init__(self) -> None:
        """Raises `DetdistillError` for a value out of range, or values that do not go together."""
        super().__post_init__()
        object.__setattr__(self, "class_map", class_table(self.class_map))
        if self.ratio is not None and self.ratio <= 0:
            raise DetdistillError(f"the recipe cannot be followed: ratio must be above 0, not {self.ratio}")
        if self.teacher_memory < 0:
            raise DetdistillError(
                f"the recipe cannot be followed: teacher_memory must not be negative, but is {self.teacher_memory}"
            )
        if not self.terms:
            raise DetdistillError(
                "the recipe cannot be followed: without terms there is nothing to learn from a teacher"
            )
