"""The network: configuration, vision encoder, decoder, fusion, grounding."""

from .configuration_traffic_vlm import TrafficVLMConfig, TrafficVLMTextConfig, TrafficVLMVisionConfig
from .conversion import (
    state_from_paligemma,
    text_config_from_gemma,
    text_state_from_gemma,
    vision_config_from_siglip,
    vision_state_from_siglip,
)
from .grounding import grounding_loss, patch_loss
from .modeling_traffic_vlm import (
    TrafficVLMForConditionalGeneration,
    TrafficVLMModel,
    TrafficVLMModelOutput,
    TrafficVLMOutput,
    TrafficVLMPreTrainedModel,
    TrafficVLMTextModel,
    TrafficVLMVisionModel,
)

__all__ = [
    "TrafficVLMConfig",
    "TrafficVLMForConditionalGeneration",
    "TrafficVLMModel",
    "TrafficVLMModelOutput",
    "TrafficVLMOutput",
    "TrafficVLMPreTrainedModel",
    "TrafficVLMTextConfig",
    "TrafficVLMTextModel",
    "TrafficVLMVisionConfig",
    "TrafficVLMVisionModel",
    "grounding_loss",
    "patch_loss",
    "state_from_paligemma",
    "text_config_from_gemma",
    "text_state_from_gemma",
    "vision_config_from_siglip",
    "vision_state_from_siglip",
]
