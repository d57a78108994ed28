"""An exported model answers as the model does."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from tiny_checkpoint import ANSWERS, QUESTIONS, make_pipeline
from traffic_vlm.deployment.export import export, load, write_onnx
from traffic_vlm.deployment.graphs import three_graphs
from traffic_vlm.deployment.quantize import compare, quantize
from traffic_vlm.deployment.session import Session
from traffic_vlm.deployment.session import main as session_main
from traffic_vlm.processing.tokenization_traffic_vlm import decision_lengths
from transformers import AutoProcessor

ROOT = Path(__file__).resolve().parents[2]
MORE = [*QUESTIONS, "Is there a pedestrian on the road ahead of me?", "Lane?"]  # of four lengths: padding


def reference(model, processor, picture, steps):
    inputs = processor(images=[picture], text=MORE, return_tensors="pt").to(model.dtype)
    out = model.generate(
        **inputs, max_new_tokens=steps, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return out.sequences[:, inputs["input_ids"].shape[1] :].numpy(), torch.stack(
        out.logits, 1
    ).float().numpy()


def run_with_logits(session, picture, steps):
    """The session's tokens, and the logits that its graphs gave on the way."""
    logits = []

    def listen(graph):
        def run(feeds):
            result = graph(feeds)
            if "logits" in result:
                logits.append(result["logits"])
            return result

        return run

    listening = Session.__new__(Session)
    listening.__dict__ = {**session.__dict__, "graphs": {n: listen(g) for n, g in session.graphs.items()}}
    tokens, _, _ = listening.generate(listening.look(picture), MORE, steps)
    return tokens, np.stack(logits, axis=1)


@pytest.mark.parametrize("color", ANSWERS)
def test_onnx_gives_the_same_tokens_and_logits(session, pipe, pictures, color):
    tokens, logits = run_with_logits(session, pictures[color], 12)
    expected_tokens, expected_logits = reference(pipe.model, pipe.processor, pictures[color], 12)
    assert tokens.tolist() == expected_tokens.tolist()
    # A finished row goes on with padding, whose logits nobody reads.
    read = np.cumsum(tokens == 2, axis=1) - (tokens == 2) == 0
    np.testing.assert_allclose(logits[read], expected_logits[read], atol=2e-3)


def test_onnx_gives_the_pipelines_answers_confidence_and_evidence(session, pipe, pictures):
    for color, answers in ANSWERS.items():
        found = session.ask(session.look(pictures[color]), QUESTIONS)
        expected = pipe(image=pictures[color], question=list(QUESTIONS), return_maps=True)
        assert [result["answer"] for result in found] == list(answers)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours["confidence"] == pytest.approx(theirs["confidence"], abs=1e-3)
            assert ours["abstained"] == theirs["abstained"] == (theirs["confidence"] < 0.9)
            np.testing.assert_allclose(ours["evidence_map"], theirs["evidence_map"], atol=1e-4)


def test_settings_are_looked_up_where_the_pipeline_does(session, pipe):
    assert pipe.model.config.confidence_temperature == 1.2
    assert session.settings["confidence_temperature"] == 1.7
    assert session.settings["abstain_threshold"] == 0.9


JSON = """
import sys
import numpy as np
from traffic_vlm.deployment import session

class Knowing(session.Session):
    def __init__(self, folder): pass
    def look(self, image): pass
    def ask(self, seen, questions):
        row = {"answer": "Да.", "confidence": 1.0, "abstained": False, "evidence_map": np.ones((1, 1))}
        return [{"question": question, **row} for question in questions]

session.Session = Knowing
sys.exit(session.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_what_is_redirected_is_utf8_whatever_the_system_says(more):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}  # as redirected on Windows
    environment.pop("PYTHONUTF8", None)
    arguments = ["folder", "--image", "frame.png", "--text", "Чисто?", *more]
    done = subprocess.run([sys.executable, "-c", JSON, *arguments], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "Чисто?" in done.stdout.decode("utf-8")


def test_confidence_of_a_coordinate_is_the_pipelines(pipe):
    from traffic_vlm.deployment.session import log_prob_of
    from traffic_vlm.processing.pipeline_traffic_vlm import _log_probs_of

    logits = torch.randn(5, 2000, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([4, 30, 600, 1027, 1500])
    expected = _log_probs_of(tokens[:, None], (logits / 0.8).log_softmax(-1)[:, None])[:, 0]
    np.testing.assert_allclose(log_prob_of(tokens.numpy(), logits.numpy(), 0.8), expected, atol=1e-4)


def test_a_frame_is_encoded_once_however_many_questions(exported, pictures):
    session = Session(exported, threads=1)
    encode, calls = session.graphs["encoder"], []
    session.graphs["encoder"] = lambda feeds: calls.append(1) or encode(feeds)
    seen = session.look(pictures["green"])
    together = session.ask(seen, MORE)
    alone = [session.ask(seen, [question])[0] for question in MORE]
    assert len(calls) == 1
    assert [result["answer"] for result in together] == [result["answer"] for result in alone]
    assert [result["confidence"] for result in together] == pytest.approx(
        [result["confidence"] for result in alone], abs=1e-3
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.3)])
def test_torch_export_round_trip(checkpoint, pictures, tmp_path, dtype, tolerance):
    folder = export(checkpoint, tmp_path / "programs", "torch_export", dtype)
    model, processor = load(checkpoint, dtype)
    tokens, logits = run_with_logits(Session(folder), pictures["red"], 6)
    expected_tokens, expected_logits = reference(model, processor, pictures["red"], 6)
    np.testing.assert_allclose(logits[:, 0], expected_logits[:, 0], atol=tolerance)
    known = slice(0, len(QUESTIONS))  # what it learnt; between other answers bfloat16 may waver
    assert tokens[known].tolist() == expected_tokens[known].tolist()


def test_before_transformers_had_exporters_torchs_own_is_used(pipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers.exporters.exporter_onnx", None)
    _, module, inputs, axes = list(three_graphs(pipe.model))[2]
    write_onnx(module.eval(), inputs, axes, tmp_path / "decode.onnx")
    graph = onnxruntime.InferenceSession(tmp_path / "decode.onnx", providers=["CPUExecutionProvider"])
    found = graph.run(["logits"], {name: value.numpy() for name, value in inputs.items()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, module(**inputs)["logits"].numpy(), atol=1e-4)


def test_eight_bits_are_smaller_and_their_cost_is_measured(exported, pictures, tmp_path):
    small = quantize(exported, tmp_path / "int8")
    assert (small / "decode.onnx").stat().st_size < (exported / "decode.onnx").stat().st_size
    rows = [
        {
            "image_id": color,
            "image": pictures[color],
            "questions": [
                {"question": question, "answer": answer, "family": family}
                for question, answer, family in zip(
                    QUESTIONS, ANSWERS[color], ("lane", "weather"), strict=True
                )
            ],
        }
        for color in ANSWERS
    ]
    (tmp_path / "set" / "data").mkdir(parents=True)
    from datasets import Image

    Dataset.from_list(rows).cast_column("image", Image()).to_parquet(
        tmp_path / "set" / "data" / "tune-00000-of-00001.parquet"
    )
    cost = compare(exported, small, tmp_path / "set", "tune", frames=2)
    assert (cost["frames"], cost["questions"]) == (2, 4)
    assert cost["accuracy"]["mean"] == 1.0
    assert cost["change"]["mean"] == pytest.approx(cost["other_accuracy"]["mean"] - 1.0)
    assert cost["agreement"]["mean"] >= 0.75


def test_long_answers_are_compared_whole(monkeypatch, pictures):
    answer = "A partly cloudy day, many vehicles, no people, green light."  # 22 tokens

    class Knowing:
        def __init__(self, folder):
            pass

        look = __init__

        def ask(self, seen, questions, max_new_tokens=64):
            return [{"answer": answer if max_new_tokens >= 22 else "A partly cloudy day"} for _ in questions]

    question = {"question": "Describe the scene.", "answer": answer, "family": "describe"}
    rows = [{"image_id": "a", "image": pictures["red"], "questions": [question]}]
    monkeypatch.setattr("traffic_vlm.deployment.quantize.Session", Knowing)
    monkeypatch.setattr("traffic_vlm.evaluation.predict.open_frames", lambda *_: rows)
    assert compare("float", "int8", "set")["accuracy"]["mean"] == 1.0


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"format": "onnx"}'])
def test_damaged_settings_are_named(tmp_path, text):
    (tmp_path / "export.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"export\.json: damaged; run scripts/export\.py again\."):
        Session(tmp_path)


def test_eight_bits_go_beside_the_folder_that_one_is_in(tmp_path, monkeypatch):
    def write(*arguments):
        folder = Path(arguments[1])
        folder.mkdir(exist_ok=True)
        return folder

    monkeypatch.setattr("traffic_vlm.deployment.export.export", write)
    monkeypatch.setattr("traffic_vlm.deployment.quantize.quantize", write)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "config.json").touch()
    main = runpy.run_path(str(ROOT / "scripts" / "export.py"))["main"]
    assert main(["--checkpoint", ".", "--output", ".", "--int8"]) == 0
    assert (tmp_path / "here-int8").is_dir()


def test_half_an_export_does_not_open(checkpoint, exported, pictures, tmp_path, monkeypatch, capsys):
    """Of an older export under it there is nothing left that would make it look whole."""
    half = tmp_path / "half"
    shutil.copytree(exported, half)
    (half / "decode.onnx").write_bytes(b"half a graph")
    picture = tmp_path / "frame.png"
    pictures["red"].save(picture)
    assert session_main([str(half), "--image", str(picture), "--text", "Is it night?"]) == 2
    error = capsys.readouterr().err.strip()
    assert "decode.onnx: this graph is damaged" in error
    assert "\n" not in error

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxruntime.quantization.quantize_dynamic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize(exported, half)
    monkeypatch.setattr("traffic_vlm.deployment.export.write_onnx", interrupted)
    again = tmp_path / "again"
    shutil.copytree(exported, again)
    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, again)
    assert not any((folder / "export.json").exists() for folder in (half, again))


def test_the_command_line_says_in_one_line_what_is_wrong(tmp_path):
    make_pipeline(fusion="prefix", image_token_id=3).save_pretrained(tmp_path / "prefix")
    lacking = tmp_path / "lacking"
    make_pipeline().save_pretrained(lacking)
    weights = load_file(lacking / "model.safetensors")
    del weights["model.projector.linear.weight"]
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    for arguments, message in (
        (["--checkpoint", lacking, "--output", tmp_path / "out"], "lacks weights"),
        (["--checkpoint", tmp_path / "prefix", "--output", tmp_path / "out"], "cannot be exported"),
        (["--checkpoint", tmp_path / "nothing", "--output", tmp_path / "out"], "no checkpoint here"),
        (["--output", tmp_path / "out", "--dtype", "bfloat16"], "torch_export"),
    ):
        done = subprocess.run(
            [sys.executable, ROOT / "scripts" / "export.py", *map(str, arguments)],
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match=r"export\.json"):
        Session(tmp_path)


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ("No, a pedestrian is ahead.", "No"),
        ("On the left, far away.", "On the left, far away"),
        ("Ahead, not far.", "Ahead, not far"),
        ("There is none.", "There is none"),
        ("A clear day, many vehicles.", "A clear day"),
        ("<loc0001><loc0002><loc0003><loc0004> car", "<loc0001><loc0002><loc0003><loc0004> car"),
        (".", "."),
    ],
)
def test_session_and_pipeline_end_a_decision_alike(answer, decision):
    tokenizer = AutoProcessor.from_pretrained(
        ROOT / "checkpoints/traffic-vlm", trust_remote_code=True
    ).tokenizer
    row = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    row.append(tokenizer.pad_token_id)
    (length,) = decision_lengths(tokenizer, [row])
    assert tokenizer.decode(row[:length]).strip() == decision
    lent = SimpleNamespace(processor=SimpleNamespace(tokenizer=tokenizer))
    assert Session.decision_length(lent, np.array(row)) == length
