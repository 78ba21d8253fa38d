"""Tiny detectors of transformers with random weights, saved as users save theirs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

CLASSES = ("cell", "platelet", "other")
SIDE = 128
GRID_FAMILIES = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")
QUERIES = 20
STRETCH = {"height": SIDE, "width": SIDE}

_PYRAMID: dict[str, Any] = {
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_queries": QUERIES,
    "hidden_expansion": 0.5,
}
_DETR: dict[str, Any] = {
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": QUERIES,
}


def _config(family: str, classes: Sequence[str], changes: dict[str, Any]) -> Any:
    hf: Any = import_module("transformers")
    names: dict[str, Any] = {
        "id2label": dict(enumerate(classes)),
        "label2id": {name: label for label, name in enumerate(classes)},
    }
    options = names | changes
    match family:
        case "rt_detr" | "rt_detr_v2":
            backbone = hf.RTDetrResNetConfig(
                embedding_size=8,
                hidden_sizes=[8, 16, 16, 16],
                depths=[1, 1, 1, 1],
                layer_type="basic",
                out_features=["stage2", "stage3", "stage4"],
            )
            kind = hf.RTDetrConfig if family == "rt_detr" else hf.RTDetrV2Config
            channels = [16, 16, 16]
            return kind(**_PYRAMID | {"backbone_config": backbone, "encoder_in_channels": channels} | options)
        case "d_fine" | "deimv2":
            backbone = hf.HGNetV2Config(
                stem_channels=[3, 8, 8],
                hidden_sizes=[16, 16, 16, 16],
                stage_in_channels=[8, 16, 16, 16],
                stage_mid_channels=[8, 8, 8, 8],
                stage_out_channels=[16, 16, 16, 16],
                stage_num_blocks=[1, 1, 1, 1],
                stage_numb_of_layers=[1, 1, 1, 1],
                out_indices=[2, 3, 4],
            )
            kind = hf.DFineConfig if family == "d_fine" else hf.Deimv2Config
            channels = [16, 16, 16]
            return kind(**_PYRAMID | {"backbone_config": backbone, "encoder_in_channels": channels} | options)
        case "detr" | "conditional_detr" | "deformable_detr" | "table-transformer" | "dab-detr":
            kinds = {
                "detr": hf.DetrConfig,
                "conditional_detr": hf.ConditionalDetrConfig,
                "deformable_detr": hf.DeformableDetrConfig,
                "table-transformer": hf.TableTransformerConfig,
                "dab-detr": hf.DabDetrConfig,
            }
            stages = ["stage2", "stage3", "stage4"] if family == "deformable_detr" else ["stage4"]
            backbone = hf.ResNetConfig(
                embedding_size=8,
                hidden_sizes=[8, 16, 16, 16],
                depths=[1, 1, 1, 1],
                layer_type="basic",
                out_features=stages,
            )
            width = {"hidden_size" if family == "dab-detr" else "d_model": 32}
            return kinds[family](**_DETR | width | {"backbone_config": backbone, "use_timm_backbone": False} | options)
        case "yolos":
            return hf.YolosConfig(
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                image_size=[SIDE, SIDE],
                num_detection_tokens=QUERIES,
                **options,
            )
        case "rf_detr":
            backbone = hf.RfDetrDinov2Config(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=SIDE,
                patch_size=16,
                num_windows=2,
                out_indices=[1, 2],
            )
            return hf.RfDetrConfig(
                backbone_config=backbone,
                d_model=32,
                decoder_ffn_dim=32,
                decoder_layers=1,
                decoder_self_attention_heads=2,
                decoder_cross_attention_heads=2,
                num_queries=QUERIES,
                group_detr=2,
                **options,
            )
        case "lw_detr":
            backbone = hf.LwDetrViTConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=SIDE,
                pretrain_image_size=SIDE,
                patch_size=16,
                num_windows=4,
                window_block_indices=[0],
                out_indices=[1, 2],
            )
            return hf.LwDetrConfig(
                backbone_config=backbone,
                projector_scale_factors=[1.0],
                d_model=32,
                decoder_ffn_dim=32,
                decoder_layers=1,
                decoder_self_attention_heads=2,
                decoder_cross_attention_heads=2,
                num_queries=QUERIES,
                group_detr=2,
                **options,
            )
    raise ValueError(family)


def processor_of(family: str, **changes: Any) -> Any:
    """The image processor that transformers has for a family, which stretches to 128 x 128 pixels."""
    hf: Any = import_module("transformers")
    kinds = {
        "detr": hf.DetrImageProcessor,
        "table-transformer": hf.DetrImageProcessor,
        "conditional_detr": hf.ConditionalDetrImageProcessor,
        "dab-detr": hf.ConditionalDetrImageProcessor,
        "deformable_detr": hf.DeformableDetrImageProcessor,
        "lw_detr": hf.DeformableDetrImageProcessor,
        "yolos": hf.YolosImageProcessor,
        "rf_detr": hf.RfDetrImageProcessor,
    }
    return kinds.get(family, hf.RTDetrImageProcessor)(**{"size": STRETCH} | changes)


def model_of(family: str, classes: Sequence[str] = CLASSES, **changes: Any) -> Any:
    """A detector of random weights whose predictions differ from cell to cell and from query to query."""
    hf: Any = import_module("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = hf.AutoModelForObjectDetection.from_config(_config(family, classes, changes))
        generator = torch.Generator().manual_seed(1)
        for module in model.modules():
            # Some families draw the weights of BatchNorm close to 0: all cells would be the same.
            if "BatchNorm" in type(module).__name__:
                module.weight.data.fill_(1.0)
            elif isinstance(module, torch.nn.Linear):
                module.weight.data += 0.2 * torch.randn(module.weight.shape, generator=generator)
            elif isinstance(module, torch.nn.Embedding):
                module.weight.data += torch.randn(module.weight.shape, generator=generator)
        for name, parameter in model.named_parameters():
            if name.endswith("detection_tokens"):
                parameter.data += torch.randn(parameter.shape, generator=generator)
    return model.eval()


def save(
    folder: Path,
    family: str,
    classes: Sequence[str] = CLASSES,
    *,
    processor: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a folder as `save_pretrained` does; keywords change the model's configuration."""
    model_of(family, classes, **changes).save_pretrained(folder)
    processor_of(family, **processor or {}).save_pretrained(folder)
    return folder
