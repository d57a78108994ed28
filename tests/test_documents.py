"""The numbers of README and model card are those of the report, the checkpoint's code is the repository's."""

import json
from pathlib import Path

from huggingface_hub import ModelCard

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHECKPOINT = ROOT / "checkpoints" / "traffic-vlm"


def test_numbers_are_those_of_the_report():
    from traffic_vlm.evaluation.card import fill_readme, read_report, render_card

    report, record = read_report(CHECKPOINT)
    assert fill_readme(README, report) == README
    template = (ROOT / "docs" / "model_card.template.md").read_text(encoding="utf-8")
    card = render_card(template, report, record)
    assert (ROOT / "model_card.md").read_text(encoding="utf-8") == card
    assert (CHECKPOINT / "README.md").read_text(encoding="utf-8") == card


def test_every_stage_has_its_recipe_and_its_log():
    """The card's table of stages comes from the record; the files beside it are of the same stages."""
    from traffic_vlm.evaluation.card import stage_files, stages_of

    training = CHECKPOINT / "training"
    runs = stages_of(json.loads((training / "record.json").read_text(encoding="utf-8")))
    files = stage_files(len(runs))
    assert {path.name for path in training.glob("recipe*.yaml")} == {f"recipe{file}.yaml" for file in files}
    assert {path.name for path in training.glob("log*.jsonl")} == {f"log{file}.jsonl" for file in files}
    for file, run in zip(files, reversed(runs), strict=True):
        lines = (training / f"log{file}.jsonl").read_text(encoding="utf-8").splitlines()
        last = json.loads(lines[-1])
        assert last["step"] <= run["step"]
        if run["summary"]:
            assert (last["step"], last["summary"]) == (run["step"], run["summary"])


def test_the_hub_reads_one_result_a_family_out_of_the_card():
    """As the Hub does: what shares data set, configuration and split is one result with several metrics."""
    report = json.loads((CHECKPOINT / "training" / "report.json").read_text(encoding="utf-8"))
    rows = {row["family"]: row for row in report["families"]}
    card = ModelCard.load(ROOT / "model_card.md")
    families = [result["dataset"]["config"] for result in card.data.to_dict()["model-index"][0]["results"]]
    assert len(families) == len(set(families)) > 10
    assert len(card.data.eval_results) == 3 * len(families)
    columns = {"accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy", "f1": "macro_f1"}
    for found in card.data.eval_results:
        assert found.dataset_config in found.metric_name
        wanted = 100 * rows[found.dataset_config][columns[found.metric_type]]
        assert abs(found.metric_value - wanted) < 0.01, found


def test_checkpoint_is_small_and_safe():
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl", ".pickle")]
    config = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "float32", "computed in bfloat16 it would be slow on many CPUs"


def test_checkpoint_carries_this_code():
    copies = list(CHECKPOINT.glob("*.py"))
    assert copies
    for copy in copies:
        [source] = [
            path for folder in ("modeling", "processing") if (path := ROOT / folder / copy.name).is_file()
        ]
        assert copy.read_text(encoding="utf-8") == source.read_text(encoding="utf-8"), copy.name
