from __future__ import annotations

import pytest
import torch

from detdistill.core.errors import DetdistillError
from detdistill.detectors.running import InferenceOptions, chosen_device, detect, output_of
from support.tiny_detector import tiny_detector

IMAGES = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIZES = torch.tensor([[64, 96], [40, 70]])


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_network_gets_normalised_images_in_the_wanted_format(channels_last: bool) -> None:
    detector = tiny_detector()
    seen: list[torch.Tensor] = []
    detector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        output = output_of(detector, IMAGES, SIZES, channels_last=channels_last)
        expected = detector(detector.input.normalization(IMAGES, SIZES))
    torch.testing.assert_close(seen[0], detector.input.normalization(IMAGES, SIZES), rtol=0, atol=0)
    assert seen[0].is_contiguous(memory_format=torch.channels_last) == channels_last
    torch.testing.assert_close(output.predictions.class_logits, expected.predictions.class_logits)


def test_images_are_normalised_before_bf16_begins() -> None:
    detector = tiny_detector()
    seen: list[torch.Tensor] = []
    detector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        found = detect(detector, IMAGES, SIZES, InferenceOptions(bf16=True))
    assert len(found) == 2
    torch.testing.assert_close(seen[0], detector.input.normalization(IMAGES, SIZES), rtol=0, atol=0)
    assert seen[0].dtype == torch.float32


@pytest.mark.parametrize("name", ["abacus", "meta:x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DetdistillError, match=f"device '{name}' cannot be used here: "):
        chosen_device(name)


@pytest.mark.parametrize(
    ("gpus", "rank", "device"),
    [(0, None, "cpu"), (0, "1", "cpu"), (1, None, "cuda:0"), (2, "1", "cuda:1"), (2, "2", "cuda:0")],
)
def test_processes_that_torchrun_started_take_the_gpus_in_turns(
    monkeypatch: pytest.MonkeyPatch, gpus: int, rank: str | None, device: str
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert str(chosen_device(None)) == device


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(DetdistillError, match="not 0 and 2"):
        InferenceOptions(batch_size=0, workers=2)


@pytest.mark.parametrize("side", [32, 64])
def test_a_single_value_for_batch_norm_is_told_with_a_way_out(side: int) -> None:
    detector = tiny_detector(strides=(32,), extra_levels=0).train()
    image, size = torch.zeros(1, 3, side, side, dtype=torch.uint8), torch.tensor([[side, side]])
    if side > 32:  # four cells
        output_of(detector, image, size, channels_last=False)
        return
    with pytest.raises(DetdistillError, match=r"images\.short_side.*batch_size.*start\.batch_norm: eval"):
        output_of(detector, image, size, channels_last=False)
    output_of(detector, image.repeat(2, 1, 1, 1), size.repeat(2, 1), channels_last=False)
    output_of(detector.eval(), image, size, channels_last=False)


def test_other_errors_of_a_network_are_its_own() -> None:
    detector = tiny_detector()

    def fail(*_: object) -> None:
        raise ValueError("something else")

    detector.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="something else"):
        output_of(detector, IMAGES, SIZES, channels_last=False)
