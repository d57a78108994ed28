import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoint import ANSWERS, QUESTIONS, make_pipeline
from traffic_vlm.processing.pipeline_traffic_vlm import (
    LOCATION_TOLERANCE,
    TASK,
    _log_probs_of,
    strongest_region,
)
from traffic_vlm.processing.synthetic import render_scene
from transformers import pipeline

KEYS = {"question", "answer", "confidence", "abstained", "evidence", "alternatives"}


def answers(results) -> tuple[str, ...]:
    return tuple(result["answer"] for result in results)


def test_one_frame_one_and_many_questions(pipe, pictures):
    results = pipe(image=pictures["green"], question=QUESTIONS[0])
    assert isinstance(results, list)
    assert set(results[0]) == KEYS
    assert results[0]["question"] == QUESTIONS[0]
    assert results[0]["answer"] == ANSWERS["green"][0]
    assert answers(pipe(pictures["green"], list(QUESTIONS))) == ANSWERS["green"]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_frames_and_questions_are_batched_without_mixing(pipe, pictures, batch_size):
    results = pipe(image=list(pictures.values()), question=list(QUESTIONS), batch_size=batch_size)
    assert [answers(of_frame) for of_frame in results] == list(ANSWERS.values())


def test_every_kind_of_frame_gives_the_same_answer(pipe, pictures, tmp_path):
    path = tmp_path / "blue.png"
    pictures["blue"].save(path)
    array = np.asarray(pictures["blue"])
    kinds = [path, str(path), pictures["blue"], array, torch.from_numpy(array.copy())]
    for kind in kinds:
        assert answers(pipe(image=kind, question=QUESTIONS)) == ANSWERS["blue"], type(kind)
    assert [answers(of_frame) for of_frame in pipe(image=kinds, question=QUESTIONS)] == [ANSWERS["blue"]] * 5
    batch = np.stack([array, np.asarray(pictures["red"])])
    assert [answers(of_frame) for of_frame in pipe(batch, QUESTIONS)] == [ANSWERS["blue"], ANSWERS["red"]]


def test_items_and_streams(pipe, pictures):
    items = [
        {"image": pictures["red"], "question": QUESTIONS[1]},
        {"image": pictures["blue"], "question": QUESTIONS},
    ]
    assert answers(pipe(items[0])) == ("Rainy.",)
    assert [answers(r) for r in pipe(items)] == [("Rainy.",), ANSWERS["blue"]]
    seen = []

    def stream():
        for item in items * 2:
            seen.append(item)
            yield item

    results = pipe(stream(), batch_size=2)
    assert answers(next(results)) == ("Rainy.",)
    assert len(seen) == 2, "a stream is read no further than it must be"
    assert len(list(results)) == 3


def test_confidence_is_the_probability_of_the_decision(pipe, pictures):
    result = pipe(image=pictures["red"], question=QUESTIONS[0])[0]
    inputs = pipe.processor(images=pictures["red"], text=QUESTIONS[0], return_tensors="pt")
    yes = pipe.tokenizer("Yes", add_special_tokens=False)["input_ids"]
    expected = pipe.model.score_answers(dict(inputs), [yes]).exp().item()
    assert result["confidence"] == pytest.approx(expected, abs=1e-4)
    assert 0.8 < result["confidence"] < 1


def test_temperature_and_threshold_come_with_the_checkpoint(pipe, pictures, monkeypatch):
    plain = pipe(image=pictures["red"], question=QUESTIONS[0])[0]
    assert not plain["abstained"]
    monkeypatch.setattr(pipe.model.generation_config, "confidence_temperature", 3.0, raising=False)
    softer = pipe(image=pictures["red"], question=QUESTIONS[0])[0]
    assert softer["confidence"] < plain["confidence"]
    assert softer["answer"] == plain["answer"]
    monkeypatch.setattr(pipe.model.config, "abstain_threshold", 0.9999, raising=False)
    assert pipe(image=pictures["red"], question=QUESTIONS[0])[0]["abstained"]
    assert not pipe(image=pictures["red"], question=QUESTIONS[0], abstain_threshold=0.0)[0]["abstained"]


def test_alternatives_are_other_decisions_with_their_probabilities(pipe, pictures, monkeypatch):
    monkeypatch.setattr(pipe.model.generation_config, "confidence_temperature", 2.0, raising=False)
    monkeypatch.setattr(sys.modules[type(pipe).__module__], "SMALLEST_ALTERNATIVE", 0.0)
    result = pipe(image=pictures["red"], question=QUESTIONS[0], top_k=len(pipe.tokenizer))[0]
    assert "No" in result["alternatives"]
    assert "Yes" not in result["alternatives"]
    shares = list(result["alternatives"].values())
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + result["confidence"] <= 1 + 1e-6
    inputs = pipe.processor(images=pictures["red"], text=QUESTIONS[0], return_tensors="pt")
    logits = pipe.model(**inputs).logits[0, -1] / 2.0
    no = pipe.tokenizer("No", add_special_tokens=False)["input_ids"][0]
    assert result["alternatives"]["No"] == pytest.approx(logits.softmax(-1)[no].item(), abs=1e-4)
    assert pipe(image=pictures["red"], question=QUESTIONS[0], top_k=0)[0]["alternatives"] == {}


@pytest.mark.parametrize("k", [2, 4])
def test_alternatives_may_begin_as_the_answer_does(k):
    """In the shipped tokenizer "Two" and "Three" have one first token, and every place begins with "A"."""
    folder = Path(__file__).resolve().parents[2] / "checkpoints" / "traffic-vlm"
    pipe = pipeline(TASK, model=str(folder), trust_remote_code=True)
    tokenizer, frame = pipe.tokenizer, render_scene(24).image
    question = "What kind of place is this?"
    (result,) = pipe(image=frame, question=question, top_k=k)
    found = {result["answer"].rstrip("."): result["confidence"], **result["alternatives"]}
    assert len(found) == min(k, 3)
    assert set(found) <= {"A city street", "A highway", "A residential area"}
    temperature = pipe.model.config.confidence_temperature
    for decision, probability in found.items():
        inputs = pipe.processor(images=frame, text=question, return_tensors="pt")
        said = torch.tensor([tokenizer(decision, add_special_tokens=False)["input_ids"]])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], said], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            logits = pipe.model(**inputs).logits[:, -said.shape[1] - 1 : -1] / temperature
        expected = logits.log_softmax(-1).gather(-1, said[..., None]).sum().exp().item()
        assert probability == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("make", [lambda path: path.read_bytes(), lambda path: path.open("rb")])
def test_bytes_and_open_files_are_one_frame(pipe, tmp_path, make):
    (tmp_path / "frame.png").write_bytes(b"no picture")
    with pytest.raises((ValueError, OSError)):  # at once, not when a stream is read
        pipe(image=make(tmp_path / "frame.png"), question=QUESTIONS[0])


def test_evidence_is_the_strongest_region_of_the_models_map(pipe, pictures):
    frame = pictures["red"].copy()
    frame.paste((0, 0, 255), (0, 0, 90, 90))
    result = pipe(image=frame, question=QUESTIONS[0], return_maps=True)[0]
    evidence_map = result["evidence_map"]
    assert evidence_map.shape == (10, 18)
    assert evidence_map.sum() == pytest.approx(1, abs=1e-4)
    assert result["evidence"] == [strongest_region(evidence_map)]
    inputs = pipe.processor(images=frame, text=QUESTIONS[0], return_tensors="pt")
    assert np.allclose(pipe.model.get_evidence_maps(**inputs)[0].numpy(), evidence_map, atol=1e-6)


def test_strongest_region_follows_connected_patches_only():
    grid = np.zeros((4, 8))
    grid[1, 2], grid[2, 3], grid[0, 7], grid[3, 0] = 0.4, 0.25, 0.3, 0.05
    assert strongest_region(grid) == {"box": [0.25, 0.25, 0.5, 0.75], "mass": pytest.approx(0.65)}
    grid[2, 2] = 0.1  # too weak for the region, but inside its box
    assert strongest_region(grid) == {"box": [0.25, 0.25, 0.5, 0.75], "mass": pytest.approx(0.75)}
    corner = np.zeros((4, 8))
    corner[3, 7] = 1
    assert strongest_region(corner) == {"box": [0.875, 0.75, 1.0, 1.0], "mass": 1.0}


def test_a_coordinate_is_right_within_the_tolerance():
    log_probs = torch.full((1, 3, 1100), -30.0)
    log_probs[0, 0, 4 + 100] = log_probs[0, 0, 4 + 100 + LOCATION_TOLERANCE] = np.log(0.3)
    log_probs[0, 0, 4 + 101 + LOCATION_TOLERANCE] = np.log(0.4)
    log_probs[0, 1, 4] = np.log(0.25)
    log_probs[0, 2, 1050] = np.log(0.5)
    scores = _log_probs_of(torch.tensor([[104, 4, 1050]]), log_probs).exp()
    assert scores[0].tolist() == pytest.approx([0.6, 0.25, 0.5], abs=1e-5)


@pytest.mark.parametrize(("image", "question"), [(None, "Is it?"), ("red", ""), ("red", []), ("red", None)])
def test_bad_input(pipe, pictures, image, question):
    with pytest.raises(ValueError, match=r"empty|picture"):
        pipe(image=pictures.get(image), question=question)


def test_a_bad_file_is_named(pipe, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.jpg: not a picture"):
        pipe(image=str(tmp_path / "bad.jpg"), question="Is it?")


@pytest.mark.parametrize("fusion", ["prefix", "both"])
def test_other_fusions(pictures, fusion):
    pipe = make_pipeline(fusion=fusion)
    results = pipe(image=list(pictures.values())[:2], question=list(QUESTIONS), max_new_tokens=3)
    assert [len(of_frame) for of_frame in results] == [2, 2]
    assert len(results[0][0]["evidence"]) == (1 if fusion == "both" else 0)


def test_image_text_to_text_pipeline(checkpoint, pictures):
    from transformers import pipeline

    pipe = pipeline("image-text-to-text", model=str(checkpoint), trust_remote_code=True, device="cpu")
    plain = pipe(images=pictures["green"], text=QUESTIONS[0], max_new_tokens=12, return_full_text=False)
    assert plain[0]["generated_text"] == ANSWERS["green"][0]

    def chat(picture, question):
        content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
        return [{"role": "user", "content": content}]

    chats = [chat(pictures[color], QUESTIONS[1]) for color in ANSWERS]
    results = pipe(text=chats, max_new_tokens=12, return_full_text=False)
    assert [result[0]["generated_text"] for result in results] == [answer for _, answer in ANSWERS.values()]
    whole = pipe(text=chats[0], max_new_tokens=12)
    assert whole[0]["generated_text"][-1] == {"role": "assistant", "content": "Rainy."}


FRESH = """
import sys
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, pipeline

torch.set_num_threads(1)
folder, picture, question = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
AutoModel.from_pretrained(folder, trust_remote_code=True)
AutoConfig.from_pretrained(folder, trust_remote_code=True)
inputs = processor(images=[picture], text=[question], return_tensors="pt")
with torch.no_grad():
    torch.save(model(**inputs).logits, "logits.pt")
out = model.generate(**inputs, max_new_tokens=12)
print("GENERATED", processor.post_process_image_text_to_text(out, skip_prompt=True))
pipe = pipeline("traffic-question-answering", model=folder, trust_remote_code=True, device="cpu")
print("ANSWERED", [result["answer"] for result in pipe(image=picture, question=question)])
bad = [name for name in sys.modules if name.split(".")[0] in ("traffic_vlm", "torchvision")]
assert not bad, bad
"""


def test_a_saved_folder_alone_answers_in_a_fresh_offline_process(pipe, checkpoint, pictures, tmp_path):
    pictures["blue"].save(tmp_path / "blue.png")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    result = subprocess.run(
        [sys.executable, "-c", FRESH, str(checkpoint), str(tmp_path / "blue.png"), QUESTIONS[0]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert f"GENERATED ['{ANSWERS['blue'][0]}']" in result.stdout
    assert f"ANSWERED ['{ANSWERS['blue'][0]}']" in result.stdout
    inputs = pipe.processor(
        images=[Image.open(tmp_path / "blue.png")], text=[QUESTIONS[0]], return_tensors="pt"
    )
    with torch.no_grad():
        expected = pipe.model(**inputs).logits
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected), "the same logits, bit by bit"


def test_an_alternative_to_a_place_is_followed_behind_its_comma(pipe):
    comma, stop = (pipe.tokenizer(mark, add_special_tokens=False)["input_ids"][0] for mark in (",", "."))
    place = pipe._decision_ends([{"answer": "No, a red light."}, {"answer": "On the left, close."}])
    assert {comma, stop} & set(place) == {stop}
    assert {comma, stop} <= set(pipe._decision_ends([{"answer": "No, a red light."}]))
