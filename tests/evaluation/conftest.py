"""A tiny, hardly trained checkpoint and a few painted frames with questions, made once for this folder."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value
from PIL import Image, ImageDraw
from traffic_vlm.evaluation import evaluator
from traffic_vlm.modeling.configuration_traffic_vlm import TrafficVLMConfig
from traffic_vlm.modeling.modeling_traffic_vlm import TrafficVLMForConditionalGeneration
from traffic_vlm.processing.bdd100k.families import ask_all
from traffic_vlm.processing.bdd100k.scene import Scene, SceneObject
from traffic_vlm.processing.image_processing_traffic_vlm import TrafficVLMImageProcessor
from traffic_vlm.processing.processing_traffic_vlm import TrafficVLMProcessor
from traffic_vlm.processing.tokenization_traffic_vlm import train_tokenizer

COLOURS = {"car": "blue", "pedestrian": "yellow", "traffic light": "red", "truck": "purple"}


def make_row(index: int) -> dict:
    """A frame of the data set: a painted picture, its objects, its questions."""
    rng = np.random.default_rng(index)
    picture = Image.new("RGB", (320, 180), tuple(int(v) for v in rng.integers(60, 200, 3)))
    draw, objects = ImageDraw.Draw(picture), []
    for category, colour in COLOURS.items():
        if rng.random() < 0.6:
            x, y, side = rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.3)
            box = (float(x), float(y), float(x + side), float(y + side))
            draw.rectangle([box[0] * 320, box[1] * 180, box[2] * 320, box[3] * 180], fill=colour)
            light = ("red", "green")[index % 2] if category == "traffic light" else None
            objects.append(SceneObject(category, box, light=light))
    weather, time = ("clear", "rainy")[index % 2], ("daytime", "night")[index // 2 % 2]
    scene = Scene(f"frame{index}", weather=weather, timeofday=time, scene="highway", objects=tuple(objects))
    keys = ("question", "answer", "family", "template", "evidence", "evidence_category", "rule", "pair_id")
    questions = [{key: getattr(row, key) for key in keys} for row in ask_all(scene).rows]
    things = [{"category": o.category, "box": list(o.box), "light": o.light} for o in objects]
    shared = {"image_id": scene.image_id, "split": "val", "source": "synthetic", "scene": "highway"}
    return {
        **shared,
        "weather": weather,
        "timeofday": time,
        "image": picture,
        "objects": things,
        "questions": questions,
    }


@pytest.fixture(scope="session")
def frames() -> list[dict]:
    return [make_row(index) for index in range(10)]


@pytest.fixture(scope="session")
def tiny(frames) -> tuple[TrafficVLMForConditionalGeneration, TrafficVLMProcessor]:
    texts = [text for row in frames for q in row["questions"] for text in (q["question"], q["answer"])]
    tokenizer = train_tokenizer(texts, vocab_size=1500)
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = TrafficVLMConfig(
        vision_config={**small, "image_size": [48, 96], "patch_size": 16},
        text_config={
            **small, "vocab_size": len(tokenizer), "num_key_value_heads": 1, "head_dim": 16,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        },
        cross_attention_gate_init=1.0,
    )  # fmt: skip
    model = TrafficVLMForConditionalGeneration(config).eval()
    processor = TrafficVLMProcessor(TrafficVLMImageProcessor(size={"height": 48, "width": 96}), tokenizer)
    teach(model, processor, frames)
    return model.eval(), processor


def teach(model, processor, frames, steps: int = 40) -> None:
    """Train until the model speaks in the labels' words."""
    tokenizer, ids, labels, index = processor.tokenizer, [], [], []
    for slot, row in enumerate(frames):
        for question in row["questions"]:
            prompt = processor(text=question["question"])["input_ids"][0]
            answer = [*tokenizer(question["answer"], add_special_tokens=False)["input_ids"], 2]
            ids.append(torch.tensor(prompt + answer))
            labels.append(torch.tensor([-100] * len(prompt) + answer))
            index.append(slot)
    pad = torch.nn.utils.rnn.pad_sequence
    pictures = [row["image"] for row in frames]
    batch = {
        "input_ids": pad(ids, True, 0),
        "labels": pad(labels, True, -100),
        "image_index": torch.tensor(index),
        "pixel_values": processor.image_processor(pictures, return_tensors="pt")["pixel_values"],
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        model(**batch, skip_logits=True).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="session")
def checkpoint(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "tiny"
    model, processor = tiny
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dataset(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "data").mkdir()
    box = List(Value("float32"))
    question = {
        k: Value("string")
        for k in ("question", "answer", "family", "template", "evidence_category", "rule", "pair_id")
    }
    attributes = ("image_id", "split", "source", "weather", "timeofday", "scene")
    features = Features({
        **{name: Value("string") for name in attributes}, "image": datasets.Image(),
        "objects": List({"category": Value("string"), "box": box, "light": Value("string")}),
        "questions": List({**question, "evidence": List(box)}),
    })  # fmt: skip
    for split, rows in (("val", frames), ("tune", frames[6:8]), ("train", frames[2:])):
        made = Dataset.from_list([{**row, "split": split} for row in rows], features=features)
        made.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="session")
def reported(checkpoint, dataset, tmp_path_factory):
    output, threads = tmp_path_factory.mktemp("report"), torch.get_num_threads()
    torch.set_num_threads(1)  # as each of several processes has: sums are then made in the same order
    result = evaluator.evaluate_checkpoint(checkpoint, dataset, "val", output)
    torch.set_num_threads(threads)
    return result, output
