"""A tiny checkpoint that knows three pictures by heart, made once for all tests of this folder."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from traffic_vlm.modeling.configuration_traffic_vlm import TrafficVLMConfig
from traffic_vlm.modeling.modeling_traffic_vlm import TrafficVLMForConditionalGeneration
from traffic_vlm.processing.image_processing_traffic_vlm import TrafficVLMImageProcessor
from traffic_vlm.processing.pipeline_traffic_vlm import TASK, TrafficQuestionAnsweringPipeline
from traffic_vlm.processing.processing_traffic_vlm import TrafficVLMProcessor
from traffic_vlm.processing.tokenization_traffic_vlm import train_tokenizer

torch.set_num_threads(1)  # the model is far too small to share out

QUESTIONS = ("Is the left lane clear?", "What is the weather?")
ANSWERS = {
    "red": ("Yes, it is clear.", "Rainy."),
    "green": ("No, a vehicle is there.", "Clear."),
    "blue": ("No, there is no lane there.", "Partly cloudy."),
}
TEXTS = [
    *QUESTIONS,
    *(answer for answers in ANSWERS.values() for answer in answers),
    "<loc0001><loc0002> car",
]


def make_pipeline(**config: object) -> TrafficQuestionAnsweringPipeline:
    tokenizer = train_tokenizer(TEXTS * 3)
    torch.manual_seed(0)
    settings = {
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": [160, 288],
        },
        "text_config": {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        "cross_attention_gate_init": 1.0,  # open, so that the image matters without training
        **config,
    }
    model = TrafficVLMForConditionalGeneration(TrafficVLMConfig(**settings)).eval()
    placeholders = 180 if model.config.uses_prefix else 0
    processor = TrafficVLMProcessor(TrafficVLMImageProcessor(), tokenizer, image_seq_length=placeholders)
    return TrafficQuestionAnsweringPipeline(model=model, processor=processor, task=TASK, device="cpu")


def learn_by_heart(pipe: TrafficQuestionAnsweringPipeline, pictures: dict[str, Image.Image]) -> None:
    """Train until the model knows each picture's answers."""
    tokenizer = pipe.tokenizer
    questions = [question for _ in ANSWERS for question in QUESTIONS]
    inputs = pipe.processor(text=questions, return_tensors="pt")
    answers = [answer for pair in ANSWERS.values() for answer in pair]
    tokens = [[*tokenizer(text, add_special_tokens=False)["input_ids"], 2] for text in answers]
    tokens = torch.tensor([row + [0] * (10 - len(row)) for row in tokens])
    labels = torch.cat(
        [torch.full_like(inputs["input_ids"], -100), tokens.masked_fill(tokens == 0, -100)], dim=1
    )
    batch = {
        "input_ids": torch.cat([inputs["input_ids"], tokens], dim=1),
        "attention_mask": torch.cat([inputs["attention_mask"], (tokens != 0).long()], dim=1),
        "pixel_values": pipe.image_processor(list(pictures.values()), return_tensors="pt")["pixel_values"],
        "image_index": torch.tensor([0, 0, 1, 1, 2, 2]),
    }
    optimizer = torch.optim.AdamW(pipe.model.parameters(), lr=1e-2)
    for _ in range(300):
        loss = pipe.model(**batch, labels=labels).loss
        if loss.item() < 0.02:
            return
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError(f"the tiny model did not learn three pictures (loss {loss.item():.2f})")


@pytest.fixture(scope="session")
def pipe(pictures) -> TrafficQuestionAnsweringPipeline:
    pipe = make_pipeline()
    learn_by_heart(pipe, pictures)
    return pipe


@pytest.fixture(scope="session")
def checkpoint(pipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "traffic-vlm"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pictures() -> dict[str, Image.Image]:
    return {color: Image.new("RGB", (320, 180), color) for color in ANSWERS}
