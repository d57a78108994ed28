"""Starting from published weights: SigLIP into the encoder, Gemma into the decoder, PaliGemma into both.

Each function takes a state dict as those models save it, and returns one for the part of TrafficVLM that it
names. What has no counterpart here (SigLIP's text tower and pooling head) is left out. Gated cross-attention
has no counterpart there: with its gates at 0, the decoder starts as exactly the Gemma that came in.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig

from .configuration_traffic_vlm import TrafficVLMConfig, TrafficVLMTextConfig, TrafficVLMVisionConfig
from .vision import interpolate_positions

StateDict = dict[str, torch.Tensor]


def vision_config_from_siglip(siglip: PreTrainedConfig, **overrides: Any) -> TrafficVLMVisionConfig:
    """The vision config that fits a `SiglipVisionConfig`.

    Args:
        siglip: The vision config, or the config of a whole SigLIP model.
        **overrides: Fields to set differently, such as `image_size=[224, 400]`.

    Returns:
        The config, with the patch stem.
    """
    siglip = getattr(siglip, "vision_config", siglip)
    fields = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_channels",
        "image_size",
        "patch_size",
        "hidden_act",
        "layer_norm_eps",
        "attention_dropout",
    )
    return TrafficVLMVisionConfig(**{name: getattr(siglip, name) for name in fields} | overrides)


def text_config_from_gemma(gemma: PreTrainedConfig, **overrides: Any) -> TrafficVLMTextConfig:
    """The text config that fits a `GemmaConfig`.

    Args:
        gemma: The config of a Gemma (first generation) model.
        **overrides: Fields to set differently, such as `hidden_dropout=0.1`.

    Returns:
        The config.
    """
    fields = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "hidden_act",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_parameters",
        "attention_bias",
        "attention_dropout",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
    )
    return TrafficVLMTextConfig(**{name: getattr(gemma, name) for name in fields} | overrides)


def vision_state_from_siglip(state: Mapping[str, torch.Tensor], config: TrafficVLMVisionConfig) -> StateDict:
    """Weights of `TrafficVLMVisionModel` from those of `SiglipVisionModel` or of a whole SigLIP model.

    | SigLIP                                | here                         |
    |---------------------------------------|------------------------------|
    | `embeddings.patch_embedding.*`        | `embeddings.stem.projection.*` |
    | `embeddings.position_embedding.weight`| `embeddings.position_embedding`, interpolated to the grid |
    | `encoder.layers.N.*`                  | `layers.N.*`                 |
    | `post_layernorm.*`                    | `post_layernorm.*`           |

    Args:
        state: A state dict; a leading `vision_model.` is removed, text tower and pooling head are left out.
        config: The encoder's config, whose grid of patches may be rectangular and of any size.

    Returns:
        The state dict. Without the patch embedding when `config.stem` is not `"patch"`.

    Raises:
        ValueError: If the state dict has no square grid of positions.
    """
    result = {}
    for name, tensor in state.items():
        name = re.sub(r"^(vision_model\.)+", "", name)
        if name.startswith("embeddings.patch_embedding.") and config.stem == "patch":
            result[name.replace("patch_embedding", "stem.projection")] = tensor
        elif name == "embeddings.position_embedding.weight":
            result["embeddings.position_embedding"] = square_positions_to_grid(tensor, config.grid_size)
        elif name.startswith("encoder.layers."):
            result[name.removeprefix("encoder.")] = tensor
        elif name.startswith("post_layernorm."):
            result[name] = tensor
    if "embeddings.position_embedding" not in result:
        raise ValueError("these are no SigLIP weights: embeddings.position_embedding.weight is missing.")
    return result


def square_positions_to_grid(positions: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:
    """Learned positions of a square image, interpolated to a rectangular grid.

    Args:
        positions: `(side * side, hidden_size)`.
        grid_size: Rows and columns wanted.

    Returns:
        `(rows * columns, hidden_size)`.

    Raises:
        ValueError: If the number of positions is not a square.
    """
    side = round(positions.shape[0] ** 0.5)
    if side * side != positions.shape[0]:
        raise ValueError(f"{positions.shape[0]} positions are not a square grid, as SigLIP's are.")
    if grid_size == (side, side):
        return positions
    return interpolate_positions(positions, (side, side), grid_size)


def text_state_from_gemma(state: Mapping[str, torch.Tensor]) -> StateDict:
    """Weights of `TrafficVLMTextModel` from those of `GemmaModel` or `GemmaForCausalLM`.

    The names are Gemma's already: a leading `model.` is removed, and the output layer, tied to the embedding,
    is left out.

    Args:
        state: A state dict.

    Returns:
        The state dict; cross-attention and its norm are not in it.
    """
    names = ((name, re.sub(r"^(language_model\.)?(model\.)?", "", name)) for name in state)
    kept = ("embed_tokens.", "layers.", "norm.")
    return {new: state[old] for old, new in names if new.startswith(kept) and "rotary_emb" not in new}


def state_from_paligemma(state: Mapping[str, torch.Tensor], config: TrafficVLMConfig) -> StateDict:
    """Weights of `TrafficVLMForConditionalGeneration` from those of `PaliGemmaForConditionalGeneration`.

    Of the first PaliGemma, whose decoder is a first-generation Gemma. Its counterpart has fusion `"prefix"`.

    | PaliGemma                          | here                          |
    |------------------------------------|-------------------------------|
    | `model.vision_tower.*`             | `model.vision_tower.*`, by `vision_state_from_siglip` |
    | `model.multi_modal_projector.linear.*` | `model.projector.linear.*` |
    | `model.language_model.*`           | `model.language_model.*`, by `text_state_from_gemma` |
    | `lm_head.weight`                   | `lm_head.weight`              |

    Args:
        state: A state dict, named as transformers 5 or as the published checkpoints name it.
        config: The config of the whole model.

    Returns:
        The state dict.
    """
    vision, text, result = {}, {}, {}
    for name, tensor in state.items():
        name = name.removeprefix("model.")
        if name.startswith("vision_tower."):
            vision[name.removeprefix("vision_tower.")] = tensor
        elif name.startswith("multi_modal_projector.linear."):
            result[name.replace("multi_modal_projector", "model.projector")] = tensor
        elif name.endswith("lm_head.weight"):
            result["lm_head.weight"] = tensor
        elif name.startswith("language_model."):
            text[name.removeprefix("language_model.")] = tensor
    for name, tensor in vision_state_from_siglip(vision, config.vision_config).items():
        result[f"model.vision_tower.{name}"] = tensor
    for name, tensor in text_state_from_gemma(text).items():
        result[f"model.language_model.{name}"] = tensor
    result.setdefault("lm_head.weight", result["model.language_model.embed_tokens.weight"])
    return result
