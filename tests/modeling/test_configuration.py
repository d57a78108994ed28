"""Impossible configs are refused with a message that says what to change; others survive a round trip."""

import json

import pytest
from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMTextConfig, TrafficVLMVisionConfig

IMPOSSIBLE = [
    (
        TrafficVLMVisionConfig,
        {"hidden_size": 10, "num_attention_heads": 4},
        "multiple of num_attention_heads",
    ),
    (TrafficVLMVisionConfig, {"image_size": [160, 280]}, "change image_size or patch_size"),
    (TrafficVLMVisionConfig, {"image_size": [160, 288, 3]}, r"not \[height, width\]"),
    (TrafficVLMVisionConfig, {"image_size": 8}, "change image_size or patch_size"),
    (TrafficVLMVisionConfig, {"patch_size": 0}, "patch_size is 0: set it to 1 or more"),
    (TrafficVLMVisionConfig, {"stem": "resnet"}, "choose one of 'patch', 'conv'"),
    (TrafficVLMVisionConfig, {"stem": "conv", "stem_channels": [8, 16]}, "must equal patch_size"),
    (TrafficVLMVisionConfig, {"stem": "conv", "patch_size": 12, "image_size": 24}, "must equal patch_size"),
    (TrafficVLMVisionConfig, {"stem": "conv", "stem_depths": [0, 1]}, "its number of residual blocks"),
    (TrafficVLMVisionConfig, {"drop_path_rate": 1.0}, "drop_path_rate is 1.0"),
    (TrafficVLMVisionConfig, {"attention_dropout": -0.1}, "attention_dropout is -0.1"),
    (TrafficVLMVisionConfig, {"num_hidden_layers": -1}, "num_hidden_layers is negative"),
    (TrafficVLMTextConfig, {"hidden_size": 10, "num_attention_heads": 4}, "or set head_dim"),
    (
        TrafficVLMTextConfig,
        {"num_attention_heads": 6, "num_key_value_heads": 4},
        "multiple of num_key_value_heads",
    ),
    (TrafficVLMTextConfig, {"head_dim": 15}, "make it even"),
    (TrafficVLMTextConfig, {"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    (TrafficVLMTextConfig, {"num_attention_heads": 0}, "num_attention_heads is 0"),
    (TrafficVLMTextConfig, {"hidden_dropout": 2.0}, "hidden_dropout is 2.0"),
    (TrafficVLMConfig, {"fusion": "concat"}, "choose one of 'cross_attention', 'prefix', 'both', 'none'"),
    (TrafficVLMConfig, {"cross_attention_layers": [0, 4]}, "from 0 to 3"),
    (TrafficVLMConfig, {"cross_attention_layers": [1, 1]}, "name each layer once"),
    (TrafficVLMConfig, {"cross_attention_layers": []}, "set fusion='none'"),
    (
        TrafficVLMConfig,
        {"num_cross_attention_heads": 6, "num_cross_key_value_heads": 4},
        "change one of them",
    ),
    (
        TrafficVLMConfig,
        {"fusion": "prefix", "image_token_id": None},
        "set image_token_id to the id of <image>",
    ),
    (TrafficVLMConfig, {"fusion": "both", "image_token_id": 5000}, "set image_token_id to the id of <image>"),
    (TrafficVLMConfig, {"num_patch_labels": -1}, "num_patch_labels is negative"),
    (TrafficVLMConfig, {"grounding_heads": [[0, 6]]}, "a head from 0 to 5"),
    (TrafficVLMConfig, {"grounding_heads": [[3, 0]], "cross_attention_layers": [0]}, "a layer of"),
    (TrafficVLMConfig, {"grounding_heads": [[0, 0]], "fusion": "prefix"}, "set it to"),
    (TrafficVLMConfig, {"vision_config": {"patch_size": 7}}, "change image_size or patch_size"),
]


@pytest.mark.parametrize(("config_class", "fields", "message"), IMPOSSIBLE)
def test_impossible_combinations_are_refused(config_class, fields, message) -> None:
    with pytest.raises(ValueError, match=message):
        config_class(**fields)


def test_round_trip_keeps_everything(tmp_path) -> None:
    config = TrafficVLMConfig(
        vision_config={"image_size": (96, 160), "stem": "conv"},
        text_config={"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        fusion="both",
        cross_attention_layers=[2, 0],
        grounding_heads=[(2, 1), (0, 3)],
        num_patch_labels=12,
        a_field_of_tomorrow={"kept": True},
    )
    config.save_pretrained(tmp_path)
    loaded = TrafficVLMConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict() | {"transformers_version": loaded.transformers_version}
    assert loaded.cross_attention_layers == [0, 2]
    assert loaded.grounding_heads == [[0, 3], [2, 1]]
    assert loaded.a_field_of_tomorrow == {"kept": True}
    assert loaded.text_config.rope_parameters["rope_theta"] == 500.0
    assert isinstance(loaded.vision_config, TrafficVLMVisionConfig)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written["auto_map"]["AutoModelForImageTextToText"].endswith("TrafficVLMForConditionalGeneration")


def test_defaults_fill_themselves_in() -> None:
    config = TrafficVLMConfig()
    assert config.vision_config.grid_size == (10, 18)
    assert config.vision_config.num_patches == 180
    assert config.cross_attention_layers == [0, 1, 2, 3]
    assert config.evidence_heads == [[0, head] for head in range(6)]
    assert TrafficVLMConfig(num_cross_attention_heads=3).num_cross_key_value_heads == 3
    assert TrafficVLMVisionConfig(stem="conv").stem_channels == [24, 48, 96, 192]
    assert TrafficVLMVisionConfig(image_size=64).image_size == [64, 64]
    assert TrafficVLMConfig(fusion="none").evidence_heads == []
    assert TrafficVLMConfig(tie_word_embeddings=False).text_config.tie_word_embeddings is False
