"""The built data set: same bytes whoever builds it, loads everywhere, and nothing half-written."""

import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from datasets import load_dataset, load_dataset_builder
from datasets.distributed import split_dataset_by_node

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "processing"))
import release_files as files
from loopback_hub import TOKEN, LoopbackHub
from traffic_vlm.processing.bdd100k import build as building
from traffic_vlm.processing.bdd100k import documentation, proof
from traffic_vlm.processing.bdd100k.answers import MOVE_FORWARD, answer_class
from traffic_vlm.processing.bdd100k.bdd100k_questions import BDD100KQuestions
from traffic_vlm.processing.bdd100k.build import BuildOptions, build
from traffic_vlm.processing.bdd100k.dataset import (
    FRAME,
    PRESETS,
    QUESTION,
    Filters,
    answer_weights,
    balanced,
    balanced_indices,
    filters_of,
    flatten,
    tune_split,
    weighted,
)
from traffic_vlm.processing.bdd100k.mirror import mirror_frame

ROOT = Path(__file__).parents[2]


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_release(root: Path, number: int = 30) -> Path:
    """Frames with various things in them; the even ones are clear days, the odd ones rainy nights."""
    rng = random.Random(0)
    names = [f"frame{i:03d}.jpg" for i in range(number)]
    for split in ("train", "val"):
        frames = []
        for i, name in enumerate(names):
            frame = files.frame_2020(name)
            x, y = rng.uniform(0, 1000), rng.uniform(300, 500)
            frame["labels"] = [files.box("car", x, y - 90, x + 140, y), *frame["labels"][: rng.randint(0, 3)]]
            if i % 2 == 0:
                frame["attributes"] = {"weather": "clear", "timeofday": "daytime", "scene": "city street"}
            frames.append(frame)
        files.write_2020(root, split, frames)
        files.write_pictures(root, split, names)
    return root


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def built(release, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "data"
    build(release, folder, BuildOptions(frames_a_shard=10))
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_folder_holds_what_it_should(built):
    names = set(digests(built))
    assert {"README.md", "report.json", "statistics.json", "rejected.jsonl"} <= names
    assert "data/val-00000-of-00003.parquet" in names
    assert not [name for name in names if name.endswith((".part", ".unfinished", ".note", "options.json"))]
    report = json.loads((built / "report.json").read_text(encoding="utf-8"))
    assert report["frames"]["val"] == report["frames"]["paraphrase"] == 30
    assert report["frames"]["train"] + report["frames"]["tune"] == 30


def test_two_processes_write_the_same_bytes(release, built, tmp_path):
    build(release, tmp_path / "again", BuildOptions(frames_a_shard=10), workers=2)
    assert digests(tmp_path / "again") == digests(built)


def test_an_interrupted_build_goes_on_and_gives_the_same_bytes(release, built, tmp_path, monkeypatch):
    done = []

    def run_some(work, workers):
        for job, tally in building.run_in_processes(work, workers):
            done.append(job.path.name)
            if len(done) == 4:
                raise KeyboardInterrupt
            yield job, tally

    options = BuildOptions(frames_a_shard=10)
    with pytest.raises(KeyboardInterrupt):
        build(release, tmp_path / "data", options, run=run_some)
    assert not (tmp_path / "data").exists()
    written = []
    real = building.frame_row
    monkeypatch.setattr(building, "frame_row", lambda *args: written.append(args) or real(*args))
    build(release, tmp_path / "data", options)
    assert 0 < len(written) < 90
    assert digests(tmp_path / "data") == digests(built)


def test_another_seed_asks_in_other_words_but_answers_the_same(release, built, tmp_path):
    build(release, tmp_path / "data", BuildOptions(seed=1, frames_a_shard=10))
    one, two = (load_dataset(str(folder), split="val") for folder in (built, tmp_path / "data"))
    first, second = one[0]["questions"], two[0]["questions"]
    assert [row["answer"] for row in first] == [row["answer"] for row in second]
    assert [row["question"] for row in first] != [row["question"] for row in second]


def test_load_dataset_streams_and_not(built):
    whole = load_dataset(str(built))
    assert set(whole) == {"train", "tune", "val", "paraphrase"}
    streamed = list(load_dataset(str(built), split="val", streaming=True))
    assert [row["image_id"] for row in streamed] == whole["val"]["image_id"]
    assert whole["val"][0]["image"].size == (160, 90)
    assert load_dataset_builder(str(built)).info.splits["val"].num_examples == 30
    templates = {row["template"] for frame in whole["paraphrase"]["questions"] for row in frame}
    assert all(".h" in template for template in templates)
    assert all(tune_split(name) for name in whole["tune"]["image_id"])
    assert not any(tune_split(name) for name in whole["train"]["image_id"])


def test_pictures_are_the_release_s_own_bytes(release, built):
    import pyarrow.parquet as pq

    row = pq.read_table(next((built / "data").glob("val-00000*")), columns=["image"]).to_pylist()[0]["image"]
    assert row["bytes"] == (release / "images" / "100k" / "val" / row["path"]).read_bytes()


def test_flatten_gives_the_same_rows_streaming_or_not(built):
    frames = load_dataset(str(built), split="val")
    flat = flatten(frames)
    assert len(flat) == sum(map(len, frames["questions"]))
    names = [*FRAME, *QUESTION]
    names.remove("image")
    assert set(names) <= set(flat[0])
    assert flat[len(flat) - 1]["image"].size == (160, 90)
    streamed = list(flatten(load_dataset(str(built), split="val", streaming=True)).take(200))
    for one, two in zip(flat.select(range(200)), streamed, strict=True):
        assert [one[name] for name in ("image_id", "question", "answer")] == [
            two[name] for name in ("image_id", "question", "answer")
        ]
    assert set(names) | {"image"} == set(streamed[0])


def test_nodes_share_a_stream_without_overlap(built):
    frames = load_dataset(str(built), split="val", streaming=True)
    parts = [[row["image_id"] for row in split_dataset_by_node(frames, rank, 3)] for rank in range(3)]
    assert sorted(name for part in parts for name in part) == sorted(row["image_id"] for row in frames)
    assert all(parts)


def test_builder_class_gives_the_rows_of_the_build(release, built, tmp_path):
    builder = BDD100KQuestions(data_dir=str(release), cache_dir=str(tmp_path))
    builder.download_and_prepare()
    made, expected = builder.as_dataset(), load_dataset(str(built))
    for split in expected:
        assert made[split]["questions"] == expected[split]["questions"]
    streamed = next(iter(builder.as_streaming_dataset(split="val")))
    assert [row["question"] for row in streamed["questions"]] == [
        row["question"] for row in expected["val"][0]["questions"]
    ]
    with pytest.raises(ValueError, match="data_dir"):
        BDD100KQuestions(cache_dir=str(tmp_path / "b")).download_and_prepare()


def test_filters_and_preset(release, tmp_path):
    for number, filters in enumerate((PRESETS["clear-daytime"], Filters(category=("pedestrian",)))):
        report = build(release, tmp_path / str(number), BuildOptions(splits=("val",), filters=filters))
        frames = load_dataset(str(tmp_path / str(number)), split="val")
        assert report["problems"]["filtered out"] == 30 - len(frames) > 0
        if number == 0:
            assert set(frames["weather"]) == {"clear"}
            assert set(frames["timeofday"]) == {"daytime"}
        else:
            assert all("pedestrian" in [thing["category"] for thing in row] for row in frames["objects"])


def test_a_preset_that_is_not_there_does_not_build_everything():
    assert filters_of(None) == Filters()
    assert filters_of("clear-daytime").weather == ("clear",)
    with pytest.raises(ValueError, match="'clear_daytime' is unknown: use clear-daytime"):
        filters_of("clear_daytime")


def test_bad_pictures_are_counted_by_name_and_do_not_end_the_build(tmp_path):
    release = make_release(tmp_path / "release", 8)
    pictures = release / "images" / "100k" / "val"
    (pictures / "frame000.jpg").write_bytes(b"")
    (pictures / "frame001.jpg").write_bytes((pictures / "frame001.jpg").read_bytes()[:-300])
    (pictures / "frame002.jpg").unlink()
    (pictures / "stray.jpg").write_bytes(files.picture())
    report = build(release, tmp_path / "data", BuildOptions(splits=("val",)))
    assert report["frames"]["val"] == 5
    lines = (tmp_path / "data" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rejected = [(entry["kind"], entry["name"]) for entry in map(json.loads, lines)]
    assert rejected == [  # once each, though "paraphrase" reads the frames of "val" again
        ("skipped frame: empty picture file", "frame000.jpg"),
        ("skipped frame: no picture", "frame002.jpg"),
        ("skipped frame: picture without labels", "stray.jpg"),
        ("skipped frame: unreadable picture", "frame001.jpg"),
    ]
    assert report["problems"] == {kind: 1 for kind, _ in rejected}


def test_script_ends_with_one_line_and_nothing_half_written(release, built, tmp_path, capsys):
    script = load_script("build_dataset")
    broken = make_release(tmp_path / "broken", 2)
    (broken / "labels" / "det_20" / "det_val.json").write_text("[{", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for root, output, word in (
        (broken, tmp_path / "out", "det_val.json"),
        (tmp_path / "empty", tmp_path / "out", "labels"),
        (release, built, "exists already"),
    ):
        before = digests(built)
        assert script.main(["--bdd100k-root", str(root), "--output", str(output), "--workers", "1"]) == 2
        captured = capsys.readouterr()
        lines = [
            line for line in captured.err.splitlines() if "it/s" not in line and "frames" not in line[:30]
        ]
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert word in lines[0]
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.part").exists()
        assert digests(built) == before


def test_one_label_file_is_for_one_split(release, tmp_path):
    labels = release / "labels" / "det_20" / "det_val.json"
    with pytest.raises(ValueError, match="one split"):
        build(release, tmp_path / "data", BuildOptions(labels=labels))
    report = build(release, tmp_path / "data", BuildOptions(labels=labels, splits=("val",)))
    assert report["frames"]["val"] == 30


def test_explain_row_draws_a_row(built, tmp_path, capsys):
    script = load_script("explain_row")
    common = ["--dataset", str(built), "--split", "val"]
    output = tmp_path / "row.png"
    assert script.main([*common, "--family", "presence_car", "--output", str(output)]) == 0
    assert "Opposite:" in capsys.readouterr().out
    assert output.stat().st_size > 1000
    assert script.main([*common, "--image-id", "nobody", "--output", str(tmp_path / "none.png")]) == 2
    assert capsys.readouterr().err.startswith("error: no frame 'nobody'")
    assert not (tmp_path / "none.png").exists()


def test_balancing_makes_answers_equal_and_keeps_opposites_together(built):
    families, answers, keys = [], [], []
    for i in range(300):
        word = "Yes." if i % 10 == 0 else "No."
        families += ["presence_car", "absence_car"]
        answers += [word, "No, there is one." if word == "Yes." else "Yes, there are none."]
        keys += [f"{i}/car"] * 2
    kept = balanced_indices(families, answers, keys)
    counts = {answer: sum(answers[i] == answer for i in kept) for answer in set(answers)}
    assert set(counts.values()) == {30}
    assert all((i ^ 1) in kept for i in kept)
    assert kept == balanced_indices(families, answers, keys)
    assert kept != balanced_indices(families, answers, keys, seed=1)
    chosen = balanced(flatten(load_dataset(str(built), split="val")))
    rows = [row for row in chosen.with_format(None) if row["family"] == "time_night"]
    assert sum(row["answer"] == "Yes." for row in rows) * 2 == len(rows) > 0


def test_weights_balance_every_phrasing_of_every_family(built):
    for split in ("train", "val", "paraphrase"):
        flat = weighted(flatten(load_dataset(str(built), split=split))).with_format(None)
        totals: dict[tuple[str, str], dict[str, list[float]]] = {}
        for row in flat.select_columns(["family", "template", "answer", "weight"]):
            answers = totals.setdefault((row["family"], row["template"]), {})
            answers.setdefault(answer_class(row["answer"]), []).append(row["weight"])
        assert any(len(answers) > 1 for answers in totals.values())
        for answers in totals.values():
            sums = [sum(weights) for weights in answers.values()]
            assert max(sums) == pytest.approx(min(sums))
            assert sum(sums) == pytest.approx(sum(map(len, answers.values())))
        again = weighted(flatten(load_dataset(str(built), split=split))).with_format(None)
        assert again["weight"] == flat["weight"]


def test_weights_make_every_answer_count_the_same():
    counts = {"No.": 90, "Yes.": 10}
    weights = answer_weights(counts)
    assert weights["Yes."] * 10 == pytest.approx(weights["No."] * 90)
    assert sum(weights[answer] * number for answer, number in counts.items()) == pytest.approx(100)


def test_the_proof_finds_a_planted_leak_and_only_that():
    rng = random.Random(0)

    def rows(leak: bool):
        made = []
        for _ in range(600):
            answer = rng.choice(("Yes.", "No."))
            phrase = "surely" if leak and answer == "Yes." and rng.random() < 0.5 else "really"
            made.append((f"Is it {phrase} clear?", answer, {"weather": rng.choice(("clear", "rainy"))}))
        return made

    planted, honest = proof._baselines(rows(True), rows(True)), proof._baselines(rows(False), rows(False))
    assert planted["leaking"]
    assert planted["beyond_chance"]
    assert planted["question"] > 0.7
    assert not honest["leaking"]
    assert not honest["beyond_chance"]
    assert planted["attributes"] < 0.6
    few = proof._baselines(rows(True)[:30], rows(True)[:30])
    assert few["leaking"] == (few["question"] - few["prior"] > 0.03)
    assert few["standard_error"] == pytest.approx((few["prior"] * (1 - few["prior"]) / 30) ** 0.5, abs=1e-3)


def test_statistics_count_everything(built):
    statistics = json.loads((built / "statistics.json").read_text(encoding="utf-8"))
    frames = load_dataset(str(built), split="val")
    asked = [row for rows in frames["questions"] for row in rows]
    for name, family in statistics["splits"]["val"]["families"].items():
        mine = [row for row in asked if row["family"] == name]
        assert family["rows"] == len(mine) == sum(family["answers"].values())
        assert len(mine) + sum(family["undecided"].values()) == 30
    assert proof.entropy({"a": 5, "b": 5}) == 1.0
    assert proof.entropy({"a": 5}) == 0.0


def test_card_names_licence_and_splits(built):
    page = (built / "README.md").read_text(encoding="utf-8")
    assert "license_name: bdd100k" in page
    assert "path: data/paraphrase-*.parquet" in page
    assert "Regents of the University of California" in page


def test_card_and_statistics_say_the_same(built):
    page = (built / "README.md").read_text(encoding="utf-8")
    statistics = json.loads((built / "statistics.json").read_text(encoding="utf-8"))
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "|" in line
    ]
    written = {line[0]: line[1:] for line in lines if len(line) == 6 and line[1].isdigit()}
    tables = statistics["blind"]["tables"]
    proven = {**tables["families"], **tables["groups"]}
    assert set(written) == set(proven)
    for name, (rows, *numbers, leaks) in written.items():
        assert int(rows) == proven[name]["rows"]
        expected = [proven[name][column] for column in ("prior", "question", "attributes")]
        assert [float(number) for number in numbers] == pytest.approx(expected, abs=6e-4)
        assert (leaks != "no") == proven[name]["leaking"] == (name in statistics["leaking"])
        assert (leaks == "yes") == (name in statistics["leaking_beyond_chance"])
    counts = {line[0]: line[1:] for line in lines if len(line) == 3 and line[1].isdigit()}
    for split, table in statistics["splits"].items():
        questions = sum(family["rows"] for family in table["families"].values())
        assert counts[split] == [str(table["frames"]), str(questions)]
    assert f"\n{', '.join(statistics['leaking']) or 'none'}.\n" in page


def test_forerunner_s_reading_is_on_every_frame(built):
    frames = load_dataset(str(built), split="val")
    assert set(frames["forerunner"]) <= set(MOVE_FORWARD)
    for frame in frames:
        for row in frame["questions"]:
            if row["family"] == "move_forward":
                assert row["answer"] == MOVE_FORWARD[frame["forerunner"]]


def test_a_data_set_from_before_the_column_still_loads(built, tmp_path):
    import pyarrow.parquet as pq

    for path in (built / "data").glob("val-*.parquet"):
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pq.read_table(path).drop_columns(["forerunner"]), tmp_path / "data" / path.name)
    whole = flatten(load_dataset(str(tmp_path), split="val"))
    streamed = next(iter(flatten(load_dataset(str(tmp_path), split="val", streaming=True))))
    assert whole[0]["question"] == streamed["question"]


@pytest.fixture
def hub(monkeypatch):
    with LoopbackHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield server


def test_one_command_builds_and_pushes_what_then_loads(hub, release, tmp_path, capsys):
    script, output = load_script("build_dataset"), tmp_path / "data"
    arguments = ["--bdd100k-root", str(release), "--output", str(output), "--workers", "1"]
    assert script.main([*arguments, "--push-to-hub", "me/questions"]) == 0
    assert "dataset" in capsys.readouterr().out
    repository = hub.repos["dataset", "me/questions"]
    assert repository["private"]
    online = {name: hashlib.sha256(content).hexdigest() for name, (content, _) in repository["files"].items()}
    assert online == digests(output)
    assert repository["commits"][-1][-1] == "README.md"
    fetched = huggingface_hub.snapshot_download(
        "me/questions",
        repo_type="dataset",
        local_dir=tmp_path / "fetched",
        endpoint=hub.address,
        token=TOKEN,
    )
    assert (
        load_dataset(fetched, split="paraphrase")["questions"]
        == (load_dataset(str(output), split="paraphrase")["questions"])
    )


def test_a_push_that_cannot_be_is_refused_before_the_build(hub, release, tmp_path, capsys):
    script, output = load_script("build_dataset"), tmp_path / "data"
    arguments = ["--bdd100k-root", str(release), "--output", str(output), "--workers", "1", "--push-to-hub"]
    for given, word in ((["me/questions", "--public"], "licence"), (["a/b/c"], "a/b/c")):
        assert script.main([*arguments, *given]) == 2
        assert word in capsys.readouterr().err
    assert not output.exists()
    assert not hub.repos


@pytest.mark.slow
@pytest.mark.parametrize("where", ["here", "on a cluster"])
def test_ray_gives_the_same_bytes(release, built, tmp_path, monkeypatch, where):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster
    from traffic_vlm.processing.bdd100k.scale_out import run_on_ray

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2}) if where != "here" else None
    if cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    try:
        build(release, tmp_path / "data", BuildOptions(frames_a_shard=10), workers=2, run=run_on_ray)
    finally:
        if cluster:
            cluster.shutdown()
    assert digests(tmp_path / "data") == digests(built)


def test_mirrored_rows_are_what_the_mirrored_scene_gives(built, release):
    from traffic_vlm.processing.bdd100k.families import ask_all
    from traffic_vlm.processing.bdd100k.release import read_scenes
    from traffic_vlm.processing.bdd100k.scene import mirror_scene

    frames = load_dataset(str(built), split="val")
    for frame, found in zip(frames, read_scenes(release, "val"), strict=True):
        mirrored = mirror_frame(frame)
        expected = {row.family: row for row in ask_all(mirror_scene(found)).rows}
        assert len(mirrored["questions"]) == len(expected)
        for row in mirrored["questions"]:
            assert row["answer"] == expected[row["family"]].answer
            assert row["pair_id"] == expected[row["family"]].pair_id
            assert len(row["evidence"]) == len(expected[row["family"]].evidence)
    assert mirrored["image"].getpixel((0, 5)) == frame["image"].getpixel((159, 5))
    again = mirror_frame(mirrored)
    assert [row["question"] for row in again["questions"]] == [row["question"] for row in frame["questions"]]


def test_synthetic_scenes_become_a_data_set(tmp_path, capsys):
    script = load_script("build_dataset")
    arguments = ["--synthetic", "6", "--output", str(tmp_path / "data"), "--workers", "1", "--seed", "3"]
    assert script.main(arguments) == 0
    assert "leaking families" in capsys.readouterr().out
    frames = load_dataset(str(tmp_path / "data"), split="train")
    assert set(frames["source"]) == {"synthetic"}
    assert "license: apache-2.0" in (tmp_path / "data" / "README.md").read_text(encoding="utf-8")
    assert frames[0]["drivable"].size == (160, 90)


OTHER_PYTHON = os.environ.get("TRAFFIC_VLM_DATASETS3_PYTHON")
SCRIPT = """
import sys, datasets
script, root, cache = sys.argv[1:]
assert datasets.__version__.startswith("3."), datasets.__version__
given = dict(data_dir=root, trust_remote_code=True, cache_dir=cache)
whole = datasets.load_dataset(script, **given)
print(*sorted(f"{name}={len(split)}" for name, split in whole.items()))
streamed = next(iter(datasets.load_dataset(script, split="val", streaming=True, **given)))
first = whole["val"][0]["questions"]
assert [row["question"] for row in streamed["questions"]] == [row["question"] for row in first]
"""


@pytest.mark.skipif(not OTHER_PYTHON, reason="TRAFFIC_VLM_DATASETS3_PYTHON names no Python with datasets 3")
def test_loading_script_loads_by_path_on_datasets_3(release, built, tmp_path):
    script = ROOT / "processing" / "bdd100k" / "bdd100k_questions.py"
    command = [OTHER_PYTHON, "-c", SCRIPT, str(script), str(release), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads((built / "report.json").read_text(encoding="utf-8"))["frames"]
    assert done.stdout.split() == sorted(f"{name}={number}" for name, number in counts.items())


def test_page_of_questions_is_current():
    written = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    assert written == documentation.page(), (
        "run python -m traffic_vlm.processing.bdd100k.documentation docs/questions.md"
    )
