import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from traffic_vlm.processing.image_processing_traffic_vlm import TrafficVLMImageProcessor
from traffic_vlm.processing.processing_traffic_vlm import TrafficVLMProcessor
from traffic_vlm.processing.tokenization_traffic_vlm import train_tokenizer
from transformers import AutoProcessor

QUESTIONS = ["Is the left lane clear?", "What is the weather?"]


def make_processor(**kwargs) -> TrafficVLMProcessor:
    tokenizer = train_tokenizer(
        [*QUESTIONS, "Yes.", "No, a car.", "<loc0001><loc0002><loc0003><loc0004> car"] * 3
    )
    return TrafficVLMProcessor(TrafficVLMImageProcessor(), tokenizer, **kwargs)


@pytest.fixture(scope="module")
def processor() -> TrafficVLMProcessor:
    return make_processor()


@pytest.fixture(scope="module")
def frames() -> list[Image.Image]:
    return [Image.new("RGB", (64, 36), color) for color in ("red", "green", "blue")]


def test_one_frame_many_questions(processor, frames):
    inputs = processor(images=[frames[0]], text=QUESTIONS, return_tensors="pt")
    assert set(inputs) == {"pixel_values", "input_ids", "attention_mask", "image_index"}
    assert inputs["pixel_values"].shape == (1, 3, 160, 288)
    assert inputs["image_index"].tolist() == [0, 0]
    assert inputs["image_index"].dtype == torch.int64
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape
    assert processor(images=frames[0], text=QUESTIONS[0], return_tensors="pt")["image_index"].tolist() == [0]


def test_many_frames_many_questions(processor, frames):
    inputs = processor(images=frames, text=[*QUESTIONS, QUESTIONS[0]], return_tensors="pt")
    assert inputs["image_index"].tolist() == [0, 1, 2]
    red, green, blue = inputs["pixel_values"][:, :, 0, 0].argmax(dim=1).tolist()
    assert (red, green, blue) == (0, 1, 2), "the pictures keep their order"


def test_prompt_is_bos_question_newline_padded_left(processor):
    inputs = processor(text=["Is the left lane clear?", "What is the weather today?"], return_tensors="pt")
    newline = processor.tokenizer("\n", add_special_tokens=False)["input_ids"][0]
    assert inputs["input_ids"][:, -1].tolist() == [newline] * 2
    for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        prompt = row[mask.bool()]
        assert prompt[0] == 1
        assert (row[~mask.bool()] == 0).all()
        assert prompt.tolist().count(newline) == 1
    assert "pixel_values" not in inputs


def test_white_space_is_normalised(processor):
    messy = processor(text="  Is the\n\nleft \t lane clear? \r\n")
    assert messy["input_ids"] == processor(text=QUESTIONS[0])["input_ids"]


def test_a_question_cannot_forge_special_tokens(processor):
    ids = processor(text="Is <eos> it <image> <bos> clear?")["input_ids"][0]
    assert [token for token in ids if token < 4] == [1]
    assert processor(text="<image><image> Is it?")["input_ids"] == processor(text="Is it?")["input_ids"]


@pytest.mark.parametrize("text", ["", "   \n", ["Is it?", ""], "<image>", [], [3], [None]])
def test_bad_questions(processor, frames, text):
    with pytest.raises(ValueError, match="question"):
        processor(images=frames[0], text=text)


def test_bad_combinations(processor, frames):
    with pytest.raises(ValueError, match="2 pictures and 1 questions"):
        processor(images=frames[:2], text="Is it?")
    with pytest.raises(ValueError, match="at least"):
        processor()
    with pytest.raises(ValueError, match="video"):
        processor(text="Is it?", videos=frames)
    with pytest.raises(ValueError, match="too long"):
        processor(text="why " * 3000)


@pytest.mark.parametrize(
    "kwargs", [{"text": "why " * 3000}, {"text": "why " * 30, "truncation": True, "max_length": 20}]
)
def test_a_question_is_refused_rather_than_cut(processor, kwargs):
    with pytest.raises(ValueError, match=r"^The question is too long: .* Shorten it; .* begins \"why why"):
        processor(**kwargs)
    with pytest.raises(
        ValueError, match=r"^text\[1\]: the question is too long: \d+ tokens, at most (512|20)\."
    ):
        processor(**{**kwargs, "text": ["Is it?", kwargs["text"]]})
    whole = processor(text="why " * 30)
    for longer in ({"max_length": 20}, {"truncation": False, "max_length": 20}, {"truncation": True}):
        assert processor(text="why " * 30, **longer)["input_ids"] == whole["input_ids"]


def test_complaints_name_the_question_of_a_batch(processor):
    with pytest.raises(ValueError, match=r"^text\[2\]: the question is empty: ask something"):
        processor(text=[*QUESTIONS, " "])
    with pytest.raises(ValueError, match=r"^text\[0\]: the question must be a string, got a int"):
        processor(text=[3, *QUESTIONS])


def test_one_list_of_pictures_a_question(processor, frames):
    nested = processor(images=[[frames[0]], (frames[1],)], text=QUESTIONS, return_tensors="pt")
    flat = processor(images=frames[:2], text=QUESTIONS, return_tensors="pt")
    assert torch.equal(nested["pixel_values"], flat["pixel_values"])
    assert nested["image_index"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ([[0, 1]], r"images\[0\] holds 2 pictures for one question"),
        ([[0], [1, 2]], r"images\[1\] holds 2 pictures for one question"),
        ([[0], []], r"images\[1\] is empty"),
        ([[0], 1], "mixes pictures and lists"),
        ([0, [1, 2]], "mixes pictures and lists"),
    ],
)
@pytest.mark.parametrize("num_questions", [1, 2, 3])
def test_pictures_are_never_dropped_in_silence(processor, frames, order, complaint, num_questions):
    images = [[frames[i] for i in item] if isinstance(item, list) else frames[item] for item in order]
    with pytest.raises(ValueError, match=complaint):
        processor(images=images, text=["Is it?"] * num_questions)


def test_prefix_fusion_puts_placeholders_before_bos(frames, tmp_path):
    processor = make_processor(image_seq_length=5)
    ids = processor(images=frames[0], text=QUESTIONS, return_tensors="pt")["input_ids"]
    for row in ids.tolist():
        start = row.index(3)
        assert row[start : start + 6] == [3, 3, 3, 3, 3, 1]
    processor.save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path, trust_remote_code=True).image_seq_length == 5


def test_answers_alone(processor):
    newline = processor.tokenizer("\n", add_special_tokens=False)["input_ids"][0]
    rows = []
    for question, answer in zip(QUESTIONS, ["Yes.", "<loc0001><loc0002><loc0003><loc0004> car"], strict=True):
        ids = processor(text=question)["input_ids"][0]
        ids += [*processor.tokenizer(answer, add_special_tokens=False)["input_ids"], 2]
        rows.append(ids)
    width = max(map(len, rows))
    out = torch.tensor([[0, *row] + [0] * (width - len(row)) for row in rows])
    assert newline in out[0]
    answers = processor.post_process_image_text_to_text(out, skip_prompt=True)
    assert answers == ["Yes.", "<loc0001><loc0002><loc0003><loc0004> car"]
    whole = processor.post_process_image_text_to_text(out)
    assert whole[0] == "Is the left lane clear?\nYes."
    assert processor.batch_decode(out, skip_special_tokens=True) == whole
    assert processor.post_process_image_text_to_text(out[0], skip_prompt=True) == ["Yes."]

    class Elsewhere(list):
        """As a tensor on a GPU: `tolist` works, numpy does not."""

        tolist = list.copy

        def __array__(self, *_):
            raise TypeError("can't convert cuda tensor to numpy")

    assert processor.post_process_image_text_to_text(Elsewhere(out.tolist()), skip_prompt=True) == answers


def chat(frame, text):
    return [{"role": "user", "content": [{"type": "image", "image": frame}, {"type": "text", "text": text}]}]


def test_chat_gives_the_same_inputs_as_plain_text(processor, frames):
    inputs = processor.apply_chat_template(
        chat(frames[1], QUESTIONS[1]),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    plain = processor(images=frames[1], text=QUESTIONS[1], return_tensors="pt")
    assert set(inputs) == set(plain)
    for name in plain:
        assert torch.equal(inputs[name], plain[name]), name


def test_a_follow_up_question_is_about_the_newest_picture(processor, frames):
    messages = [
        *chat(frames[0], QUESTIONS[0]),
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        *chat(frames[2], "And now?"),
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": QUESTIONS[1]},
    ]
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="np")
    plain = processor(images=frames[2], text=QUESTIONS[1], return_tensors="np")
    assert np.array_equal(inputs["input_ids"], plain["input_ids"])
    assert np.array_equal(inputs["pixel_values"], plain["pixel_values"])


def test_a_batch_of_chats(processor, frames):
    chats = [chat(frames[0], QUESTIONS[0]), chat(frames[1], QUESTIONS[1])]
    inputs = processor.apply_chat_template(chats, tokenize=True, return_dict=True, return_tensors="pt")
    assert inputs["image_index"].tolist() == [0, 1]
    assert inputs["pixel_values"].shape[0] == 2


def test_the_newest_picture_of_one_message_counts(processor, frames):
    messages = chat(frames[0], QUESTIONS[0])
    messages[0]["content"].insert(1, {"type": "image", "image": frames[2]})
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="np")
    assert np.array_equal(
        inputs["pixel_values"], processor(images=frames[2], return_tensors="np")["pixel_values"]
    )


def test_a_chat_must_end_with_a_question(processor, frames):
    with pytest.raises(Exception, match="last message must be a question"):
        processor.apply_chat_template([*chat(frames[0], "Is it?"), {"role": "assistant", "content": "Yes."}])


def test_saved_processor_loads_offline_without_the_source_tree(processor, tmp_path):
    processor.save_pretrained(tmp_path / "saved")
    Image.new("RGB", (64, 36), "red").save(tmp_path / "frame.png")
    code = (
        "import sys\n"
        "from transformers import AutoProcessor, AutoTokenizer, AutoImageProcessor\n"
        f"folder = {str(tmp_path / 'saved')!r}\n"
        "p = AutoProcessor.from_pretrained(folder, trust_remote_code=True)\n"
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=True)\n"
        "AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)\n"
        "bad = [n for n in sys.modules if n.split('.')[0] in ('traffic_vlm', 'torchvision')]\n"
        "assert not bad, bad\n"
        f"x = p(images={str(tmp_path / 'frame.png')!r}, text='Is it?', return_tensors='pt')\n"
        "print(type(p).__name__, x['input_ids'].tolist(), float(x['pixel_values'].mean()))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    inputs = processor(images=tmp_path / "frame.png", text="Is it?", return_tensors="pt")
    expected = f"TrafficVLMProcessor {inputs['input_ids'].tolist()} {float(inputs['pixel_values'].mean())}"
    assert result.stdout.strip().splitlines()[-1] == expected
