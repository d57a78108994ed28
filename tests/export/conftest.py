"""A tiny checkpoint of the shipped one's shape that knows three pictures by heart, and its exports."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "processing"))
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from tiny_checkpoint import checkpoint, learn_by_heart, make_pipeline, pictures
from traffic_vlm.deployment.export import export
from traffic_vlm.deployment.session import Session
from transformers import GenerationConfig

__all__ = ["checkpoint", "pictures"]

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": [160, 288],
    "stem": "conv",
    "stem_channels": [8, 16, 16, 32],
    "stem_depths": [0, 1, 2, 0],
}
HEADS = [[0, 0], [0, 1], [1, 0]]  # of the four that there are


@pytest.fixture(scope="session")
def pipe(pictures):
    """Two temperatures: that of the generation configuration counts."""
    settings = {"confidence_temperature": 1.2, "abstain_threshold": 0.9, "num_patch_labels": 3}
    pipe = make_pipeline(vision_config=VISION, grounding_heads=HEADS, **settings)
    learn_by_heart(pipe, pictures)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    pipe.model.generation_config = GenerationConfig(**ids, confidence_temperature=1.7)
    return pipe


@pytest.fixture(scope="session")
def exported(checkpoint, tmp_path_factory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("exports") / "onnx")


@pytest.fixture(scope="session")
def session(exported) -> Session:
    return Session(exported, threads=1)
