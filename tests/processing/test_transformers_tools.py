"""transformers' own tools on a saved checkpoint: the decision pipeline and the OpenAI-style server."""

import base64
import io
import json
import os
import socket
import subprocess
import sysconfig
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from launching import stop
from tiny_checkpoint import ANSWERS, QUESTIONS
from traffic_vlm.processing.loading import load_pipeline
from traffic_vlm.processing.synthetic import render_scene
from transformers import pipeline
from transformers.utils import import_utils

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints" / "traffic-vlm"


def decision_pipeline(checkpoint):
    pytest.importorskip("transformers.pipelines.decision")
    return pipeline("decision", model=str(checkpoint), trust_remote_code=True, device="cpu")


def test_decision_pipeline_gives_the_probability_of_yes(pipe, checkpoint, pictures):
    decide = decision_pipeline(checkpoint)
    for color, (answer, _) in ANSWERS.items():
        request = {
            "state": {"frame": "img-1"},
            "questions": {"lane": {"type": "noul", "instructions": QUESTIONS[0]}},
            "assets": {"img-1": pictures[color]},
        }
        result = decide(request)["lane"]
        inputs = pipe.processor(images=pictures[color], text=QUESTIONS[0], return_tensors="pt")
        yes, no = (pipe.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))
        with torch.no_grad():
            expected = pipe.model(**inputs).logits[0, -1, [yes, no]].softmax(-1)[0].item()
        assert result["noul"] == pytest.approx(expected, abs=1e-4)
        assert (result["noul"] > 0.5) == answer.startswith("Yes")


def test_decision_pipeline_decides_with_the_shipped_checkpoint():
    """Its tokenizer may well cut "Yes" in two, which the tiny one does not."""
    frame = render_scene(24).image
    decide = decision_pipeline(SHIPPED)
    for result in load_pipeline(str(SHIPPED))(
        image=frame, question=["Is there a traffic light?", "Is there a train?"]
    ):
        question = {"type": "noul", "instructions": result["question"]}
        request = {"state": "img-1", "questions": {"it": question}, "assets": {"img-1": frame}}
        assert (decide(request)["it"]["noul"] > 0.5) == result["answer"].startswith("Yes")


def test_decision_pipeline_reads_control_tokens_as_text(checkpoint, pictures):
    decide = decision_pipeline(checkpoint)
    question = {"type": "noul", "instructions": "Is <eos> the <image> lane clear?"}
    request = {"state": "img-1", "questions": {"lane": question}, "assets": {"img-1": pictures["red"]}}
    (inputs, _), *_ = decide.preprocess(request)["prompts"]
    assert decide.tokenizer.decode(inputs["input_ids"][0]) == "<bos>Is <eos> the <image> lane clear?\n"
    assert (inputs["input_ids"][0] < 4).sum() == 1


def test_decision_pipeline_refuses_what_the_model_never_learnt(checkpoint, pictures):
    question = {"type": "choice", "instructions": "What is it?", "criteria": {"a": None, "b": None}}
    request = {"state": "img-1", "questions": {"what": question}, "assets": {"img-1": pictures["red"]}}
    with pytest.raises(Exception, match="between yes and no only"):
        decision_pipeline(checkpoint)(request)


@pytest.fixture
def server(checkpoint, tmp_path):
    """`transformers serve` on the checkpoint, in a process that does not see the source tree."""
    # Before that, the server loads nothing but transformers' own classes.
    pytest.importorskip("transformers.decision")
    if not getattr(import_utils, "is_serve_available", lambda: False)():
        pytest.skip("transformers[serving] is not installed")
    free = socket.socket()  # kept, so that no other test is given its port before the server listens
    free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    command = [
        str(Path(sysconfig.get_path("scripts")) / "transformers"),
        "serve",
        str(checkpoint),
        "--trust-remote-code",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        patience = time.monotonic() + 300  # a busy machine takes its time
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < patience, (tmp_path / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1/chat/completions", str(checkpoint)
    finally:
        stop(process)
        free.close()


def test_transformers_serve_answers_an_openai_request_with_an_image(server, pictures):
    address, model = server
    buffer = io.BytesIO()
    pictures["green"].save(buffer, "PNG")
    image = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    content = [{"type": "text", "text": QUESTIONS[0]}, {"type": "image_url", "image_url": {"url": image}}]
    follow_up = [
        {"role": "assistant", "content": ANSWERS["green"][0]},
        {"role": "user", "content": QUESTIONS[1]},
    ]
    for messages, expected in (
        ([{"role": "user", "content": content}], ANSWERS["green"][0]),
        ([{"role": "user", "content": content}, *follow_up], ANSWERS["green"][1]),
    ):
        body = json.dumps({"model": model, "messages": messages, "max_tokens": 16}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=240) as response:
            choice = json.load(response)["choices"][0]
        assert choice["message"]["content"] == expected
        assert choice["finish_reason"] == "stop"
