"""A tiny RT-DETR of transformers, trained on `scenes` by transformers' own loss: a teacher of another architecture.

python -m benchmarks.any_teacher.rtdetr --runs RUNS [--epochs 3]

1.6 million parameters, from random weights; batch norms start at 1, not at transformers' N(0, 0.01), with which all
queries are alike. The state is kept after every 250 steps, so that the command resumes. RUNS/teacher_rtdetr becomes a
folder as `save_pretrained` writes it, with an image processor that leaves the size of images as it is.
"""

from __future__ import annotations

import argparse
import math
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from benchmarks.paper_claims.materials import SIDE, scenes
from torch import Tensor, nn

from detdistill.core.image_options import ImageOptions
from detdistill.data.loading import Batch, training_loader
from detdistill.data.opening import open_dataset

QUERIES, BATCH, SAVED_EVERY = 50, 16, 250
LEARNING_RATE, WARMUP = 5e-4, 200
IMAGES = ImageOptions(short_side=SIDE, long_side=SIDE, flip=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train(options.runs, options.epochs)


def rtdetr(runs: Path, epochs: int = 3) -> Path:
    """The folder of the trained detector; it is trained where there is none."""
    folder = runs / "teacher_rtdetr"
    if not (folder / "config.json").exists():
        train(runs, epochs)
    return folder


def train(runs: Path, epochs: int) -> None:
    dataset = open_dataset(str(scenes(runs)), "train")
    torch.manual_seed(0)
    model = tiny(dataset.classes)
    loader: Any = training_loader(dataset, IMAGES, batch_size=BATCH, seed=0, cache=True)
    total = epochs * len(loader)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, total))
    state, done = runs / "rtdetr.pt", 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        done = kept["step"]
    model.train()
    began = time.monotonic()
    for step, batch in enumerate(batches(loader, done, total), start=done):
        torch.manual_seed(step)  # of the denoising queries, also in a resumed run
        loss = model(pixel_values=batch.images.float() / 255, labels=labels(batch)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if (step + 1) % SAVED_EVERY == 0:
            speed = (time.monotonic() - began) / (step + 1 - done)
            print(f"step {step + 1} of {total}: loss {loss.item():.2f}, {speed:.2f} s a step", flush=True)
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**kept, "schedule": schedule.state_dict(), "step": step + 1}, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
    folder = runs / "teacher_rtdetr"
    model.eval().save_pretrained(folder)
    transformers: Any = import_module("transformers")
    transformers.RTDetrImageProcessor(do_resize=False, do_pad=False).save_pretrained(folder)


def tiny(classes: tuple[str, ...]) -> Any:
    """A small RT-DETR with random weights."""
    transformers: Any = import_module("transformers")
    transformers.logging.set_verbosity_error()
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=32,  # as the first stage: transformers would halve the map otherwise
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=[64, 96, 128],
        encoder_hidden_dim=64,
        encoder_ffn_dim=128,
        encoder_attention_heads=4,
        d_model=64,
        decoder_in_channels=[64, 64, 64],
        decoder_ffn_dim=128,
        decoder_layers=3,
        decoder_attention_heads=4,
        num_queries=QUERIES,
        num_denoising=40,
        hidden_expansion=0.5,
        id2label=dict(enumerate(classes)),
        label2id={name: label for label, name in enumerate(classes)},
    )
    model = transformers.RTDetrForObjectDetection(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    return model


def batches(loader: Any, done: int, total: int) -> Any:
    """The batches of all steps from `done` on."""
    steps = len(loader)
    for epoch in range(done // steps, -(-total // steps)):
        loader.batch_sampler.set_epoch(epoch, done % steps if epoch == done // steps else 0)
        yield from loader


def labels(batch: Batch) -> list[dict[str, Tensor]]:
    """The objects of each image as transformers wants them: cx cy w h, 0 to 1 of the canvas."""
    height, width = batch.images.shape[2:]
    x1, y1, x2, y2 = (batch.targets.boxes / torch.tensor([width, height, width, height])).unbind(dim=1)
    boxes = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=1)
    return [
        {"class_labels": batch.targets.labels[own], "boxes": boxes[own]}
        for own in (batch.targets.image == image for image in range(len(batch.images)))
    ]


def rate(step: int, total: int) -> float:
    """The learning rate, relative to its height: linear warm-up, then a cosine."""
    return min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / total)) / 2


if __name__ == "__main__":
    main()
