import os
import subprocess
import sys

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_hub import TOKEN, LoopbackHub
from scripts_loader import load_script
from tiny_checkpoint import ANSWERS, QUESTIONS


@pytest.fixture(scope="module")
def push():
    return load_script("push_to_hub")


@pytest.fixture
def hub(monkeypatch):
    with LoopbackHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "model_card.md"
    path.write_text("---\nlicense: apache-2.0\n---\n\n# A model\n", encoding="utf-8")
    return path


def make_dataset(folder, source="synthetic"):
    (folder / "data").mkdir(parents=True)
    pq.write_table(
        pa.table({"source": [source] * 3, "image_id": ["a", "b", "c"]}), folder / "data" / "t.parquet"
    )
    (folder / "README.md").write_text("---\nlicense: other\n---\n", encoding="utf-8")
    (folder / "data" / "half.part").write_text("left behind")
    return folder


def run(push, *arguments) -> int:
    return push.main([str(argument) for argument in arguments])


def files_of(hub, kind, name) -> dict[str, bytes]:
    return {path: content for path, (content, _) in hub.repos[kind, name]["files"].items()}


def test_everything_is_published_private_and_tagged(push, hub, checkpoint, card, tmp_path, capsys):
    app = tmp_path / "app.py"
    app.write_text("print('demo')\n")
    data = make_dataset(tmp_path / "data")
    arguments = ["--model", "me/model", "--checkpoint", checkpoint, "--card", card, "--tag", "v1"]
    arguments += ["--dataset", "me/data", "--data", data, "--space", "me/demo", "--app", app]
    assert run(push, *arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert set(hub.repos) == {("model", "me/model"), ("dataset", "me/data"), ("space", "me/demo")}
    assert all(repo["private"] and set(repo["tags"]) == {"v1"} for repo in hub.repos.values())

    model = files_of(hub, "model", "me/model")
    expected = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()}
    assert model == expected | {"README.md": card.read_bytes()}
    assert hub.repos["model", "me/model"]["commits"][-1][-1] == "README.md", "the card comes last"
    assert set(files_of(hub, "dataset", "me/data")) == {"README.md", "data/t.parquet"}
    space = files_of(hub, "space", "me/demo")
    assert space["app.py"] == app.read_bytes()
    assert b"- me/model" in space["README.md"]
    assert b"transformers>=" in space["requirements.txt"]
    assert {line.split(b">=")[0] for line in space["requirements.txt"].split()} >= {
        b"gradio",
        b"skia-python",
        b"av",
    }
    assert b"hypothesis" not in space["requirements.txt"]
    assert b"traffic" not in space["requirements.txt"], "the package is not on any index"
    assert b"sdk: gradio\napp_file: app.py" in space["README.md"]
    assert {"traffic_vlm/app/page.py", "traffic_vlm/app/style.css"} < set(space)
    assert not [name for name in space if "__pycache__" in name or "bdd100k_subset" in name]
    asked = hub.repos["space", "me/demo"]["asked"]
    assert asked["sdk"] == "gradio"
    assert asked["variables"] == [{"key": "TRAFFIC_VLM_CHECKPOINT", "value": "me/model"}]


def test_a_second_run_uploads_only_what_changed(push, hub, checkpoint, card, capsys):
    arguments = ["--model", "me/model", "--checkpoint", checkpoint, "--card", card, "--tag", "v1"]
    assert run(push, *arguments) == 0
    commits = len(hub.repos["model", "me/model"]["commits"])
    assert run(push, *arguments) == 0
    assert " 0 files uploaded" in capsys.readouterr().out
    assert len(hub.repos["model", "me/model"]["commits"]) == commits
    card.write_text(card.read_text() + "More.\n")
    assert run(push, *arguments) == 2
    assert "the tag v1 is an earlier commit's already" in capsys.readouterr().err
    assert run(push, *arguments[:-1], "v2") == 0
    assert set(hub.repos["model", "me/model"]["tags"]) == {"v1", "v2"}
    assert hub.repos["model", "me/model"]["commits"][commits:] == [["README.md"]]


def test_an_interrupted_upload_goes_on_where_it_stopped(push, hub, checkpoint, card, monkeypatch, capsys):
    monkeypatch.setattr("traffic_vlm.training.publishing.FILES_A_COMMIT", 4)
    arguments = ["--model", "me/model", "--checkpoint", checkpoint, "--card", card]
    hub.commits_until_failure = 3
    assert run(push, *arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: "), "after the progress bar"
    done = set(files_of(hub, "model", "me/model"))
    assert len(done) == 12
    assert "README.md" not in done

    hub.commits_until_failure = None
    before = len(hub.repos["model", "me/model"]["commits"])
    assert run(push, *arguments) == 0
    later = {name for commit in hub.repos["model", "me/model"]["commits"][before:] for name in commit}
    assert not later & done, "what was there is not sent again"
    assert done | later == {path.name for path in checkpoint.iterdir() if path.is_file()} | {"README.md"}


def test_a_dry_run_changes_nothing(push, hub, checkpoint, card, capsys):
    arguments = [
        "--model",
        "me/model",
        "--checkpoint",
        checkpoint,
        "--card",
        card,
        "--tag",
        "v1",
        "--dry-run",
    ]
    assert run(push, *arguments) == 0
    out = capsys.readouterr().out
    assert "would create it, private" in out
    assert "would upload model.safetensors" in out
    assert "would tag it v1" in out
    assert hub.writes() == []
    assert hub.repos == {}
    assert run(push, *arguments[:-1]) == 0
    capsys.readouterr()
    assert run(push, *arguments) == 0
    out = capsys.readouterr().out
    assert "it exists" in out
    assert "would upload" not in out


def test_a_dry_run_works_without_a_hub(push, checkpoint, card, monkeypatch, capsys):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub tries again for a while
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    arguments = ["--model", "me/model", "--checkpoint", checkpoint, "--card", card]
    assert run(push, *arguments, "--dry-run") == 0
    assert "would upload model.safetensors" in capsys.readouterr().out
    assert run(push, *arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_visibility(push, hub, checkpoint, card, capsys):
    arguments = ["--model", "me/model", "--checkpoint", checkpoint, "--card", card]
    assert run(push, *arguments, "--public") == 0
    assert not hub.repos["model", "me/model"]["private"]
    assert run(push, *arguments) == 2, "what is public is not overwritten by somebody who believes it private"
    assert "exists and is public" in capsys.readouterr().err


def test_bdd100k_frames_are_never_made_public(push, hub, tmp_path, capsys):
    data = make_dataset(tmp_path / "data", source="bdd100k")
    assert run(push, "--dataset", "me/data", "--data", data, "--public") == 2
    assert "licence does not allow" in capsys.readouterr().err
    assert hub.log == []
    assert run(push, "--dataset", "me/data", "--data", data) == 0
    assert hub.repos["dataset", "me/data"]["private"]


def test_bad_requests_end_in_one_line_and_send_nothing(push, hub, checkpoint, card, tmp_path, capsys):
    (tmp_path / "hollow").mkdir()
    for arguments, complaint in (
        ([], "nothing to publish"),
        (["--model", "me/m", "--checkpoint", tmp_path / "nowhere"], "no such folder"),
        (["--model", "me/m", "--checkpoint", tmp_path / "hollow"], "no config.json"),
        (["--model", "me/m", "--checkpoint", checkpoint, "--card", tmp_path / "x.md"], "no such model card"),
        (["--model", "m", "--checkpoint", checkpoint, "--card", card], "owner/name"),
        (["--dataset", "me/d"], "--data"),
        (["--dataset", "me/d", "--data", tmp_path / "hollow"], "no Parquet files"),
        (["--space", "me/s"], "--model"),
        (
            ["--model", "me/m", "--checkpoint", checkpoint, "--card", card, "--space", "me/s", "--app", "x"],
            "no such app",
        ),
    ):
        assert run(push, *arguments) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert complaint in error
        assert error.count("\n") == 1
    assert hub.log == []


def test_a_wrong_token_is_one_line(push, hub, checkpoint, card, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert run(push, "--model", "me/model", "--checkpoint", checkpoint, "--card", card) == 2
    error = capsys.readouterr().err
    assert "401" in error
    assert error.count("\n") == 1
    assert hub.repos == {}


DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageTextToText, AutoProcessor
snapshot_download("me/model", local_dir=sys.argv[1])
processor = AutoProcessor.from_pretrained("me/model", trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained("me/model", trust_remote_code=True)
print("LOADED", type(processor).__name__, type(model).__name__)
"""
ANSWER = """
import sys
from transformers import pipeline
pipe = pipeline("traffic-question-answering", model=sys.argv[1], trust_remote_code=True, device="cpu")
print("ANSWER", pipe(image=sys.argv[2], question=sys.argv[3])[0]["answer"])
assert not any(name.split(".")[0] == "traffic_vlm" for name in sys.modules)
"""


def test_the_pushed_folder_alone_loads_and_answers(push, hub, checkpoint, card, pictures, tmp_path):
    assert run(push, "--model", "me/model", "--checkpoint", checkpoint, "--card", card) == 0
    pictures["green"].save(tmp_path / "green.png")
    folder = tmp_path / "downloaded"
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }

    def python(code, *arguments, **more):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=240
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    online = {"HF_HUB_OFFLINE": "0"}
    assert "LOADED TrafficVLMProcessor TrafficVLMForConditionalGeneration" in python(
        DOWNLOAD, folder, **online
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "other")}
    answer = python(ANSWER, folder, tmp_path / "green.png", QUESTIONS[0], **offline)
    assert f"ANSWER {ANSWERS['green'][0]}" in answer
