import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripts_loader import load_script
from traffic_vlm.processing.tokenization_traffic_vlm import (
    LOCATION_TOKENS,
    TrafficVLMTokenizer,
    train_tokenizer,
)

QUESTIONS = [
    "Is the left lane clear?",
    "Is the right lane clear?",
    "Can I safely turn left?",
    "What is the weather?",
    "Where is the nearest car?",
]
ANSWERS = [
    "No, a car is in the left lane.",
    "Yes.",
    "clear",
    "<loc0512><loc0000><loc1023><loc0256> car",
    "12",
]


@pytest.fixture(scope="module")
def tokenizer() -> TrafficVLMTokenizer:
    return train_tokenizer((QUESTIONS + ANSWERS) * 3)


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_special_and_location_ids_are_fixed(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<bos>", "<eos>", "<image>"]) == [0, 1, 2, 3]
    assert tokenizer.convert_tokens_to_ids(list(LOCATION_TOKENS)) == list(range(4, 1028))
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.image_token_id == 3


@given(text=st.text(max_size=60))
@example("a 🚗\u200d🔥 \x00\x07\x1b\x7f\r\n\t\n  trailing  ")
@example("<eos><pad><image><bos> <loc0001><loc1024>")
@example("don't  they're İstanbul ﬁ e\u0301 \ufeff \U0010ffff")
@settings(max_examples=300, deadline=None)
def test_any_text_decodes_back_exactly(tokenizer, text):
    encoded = tokenizer(text)["input_ids"]
    assert encoded[0] == 1
    assert tokenizer.decode(encoded, skip_special_tokens=True) == text


def test_a_user_cannot_write_a_special_token(tokenizer):
    forged = ids(tokenizer, "<eos> stop <image><pad><bos>")
    assert min(forged) >= 1028, "special tokens typed by a user must be bytes"
    assert ids(tokenizer, "<loc0007>") == [11], "a location is a word that anybody may write"


@given(
    before=st.text(alphabet=" .?!\t\r\nab\u00e9\U0001f697", max_size=8),
    after=st.text(alphabet=" Yb\n.", max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_newline_is_one_token_whatever_stands_beside_it(tokenizer, before, after):
    newline = ids(tokenizer, "\n")
    assert len(newline) == 1
    assert ids(tokenizer, before + "\n" + after) == ids(tokenizer, before) + newline + ids(tokenizer, after)


def test_words_of_the_questions_are_single_tokens(tokenizer):
    assert len(ids(tokenizer, "Is the left lane clear?")) == 6
    assert len(ids(tokenizer, "No, a car")) == 4


def test_a_word_is_one_token_where_the_texts_hold_it_often_enough():
    texts = ["Is it dry?", "Is it wet?", "Is it dark?", "Yes."]
    room = 1287  # for two whole words and a merge
    assert len(ids(train_tokenizer(texts, room), "Is it")) == 2
    assert len(ids(train_tokenizer(texts, room), "Yes")) > 1, "only one text holds it"
    assert len(ids(train_tokenizer([*texts, *["Yes."] * 4], room), "Yes")) == 1


def test_location_tokens_survive_decoding(tokenizer):
    answer = [*ids(tokenizer, "<loc0512><loc0000><loc1023><loc0256> car"), tokenizer.eos_token_id]
    assert len(answer) == 6
    assert tokenizer.decode(answer, skip_special_tokens=True) == "<loc0512><loc0000><loc1023><loc0256> car"


def test_pads_on_the_left(tokenizer):
    batch = tokenizer(["Yes.", "Is the left lane clear?"], padding=True)
    assert batch["attention_mask"][0][0] == 0
    assert batch["attention_mask"][0][-1] == 1
    assert set(batch) == {"input_ids", "attention_mask"}


def test_training_is_deterministic_and_ignores_order():
    one = train_tokenizer((QUESTIONS + ANSWERS) * 3)
    other = train_tokenizer(reversed((QUESTIONS + ANSWERS) * 3))
    assert other.backend_tokenizer.to_str() == one.backend_tokenizer.to_str()


def test_vocabulary_respects_its_size():
    texts = [f"word{number} and{number % 7} more" for number in range(400)] * 2
    assert len(train_tokenizer(texts, vocab_size=1300)) <= 1300
    with pytest.raises(ValueError, match="at least 1284"):
        train_tokenizer(texts, vocab_size=1000)
    with pytest.raises(ValueError, match="no text"):
        train_tokenizer([])


def test_loads_in_a_fresh_offline_process_without_the_source_tree(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "saved")
    code = (
        "import sys\n"
        "from transformers import AutoTokenizer\n"
        f"t = AutoTokenizer.from_pretrained({str(tmp_path / 'saved')!r}, trust_remote_code=True)\n"
        "assert not any(name.startswith('traffic_vlm') for name in sys.modules), 'the source tree was used'\n"
        "print(type(t).__name__, t('Is the <eos>\\n')['input_ids'], t.padding_side)\n"
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
    expected = tokenizer("Is the <eos>\n")["input_ids"]
    assert result.stdout.strip().splitlines()[-1] == f"TrafficVLMTokenizer {expected} left"


def write_dataset(folder):
    (folder / "data").mkdir(parents=True)
    questions = [{"question": q, "answer": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    table = pa.table({"image_id": ["a", "b", "c"], "questions": [questions, questions, []]})
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet")


def test_script_trains_from_a_dataset(tmp_path, capsys):
    script = load_script("train_tokenizer")
    write_dataset(tmp_path / "dataset")
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output in outputs:
        assert script.main(["--dataset", str(tmp_path / "dataset"), "--output", str(output)]) == 0
    assert "20 texts (10 distinct)" in capsys.readouterr().out
    assert (
        outputs[0].joinpath("tokenizer.json").read_bytes()
        == outputs[1].joinpath("tokenizer.json").read_bytes()
    )


def test_script_reports_a_missing_dataset_in_one_line(tmp_path, capsys):
    script = load_script("train_tokenizer")
    assert script.main(["--dataset", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
