from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from traffic_vlm.training.recipe import METRICS, RecipeError, dump_recipe, load_recipe
from traffic_vlm.training.trainer import read_model_config

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "configs" / "train").glob("*.yaml"))
PROFILES = sorted((ROOT / "configs" / "launch").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_complete(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert read_model_config(load_recipe(path)).vision_config.num_patches > 0


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_launch_profiles_are_what_accelerate_reads(path):
    profile = load_config_from_file(str(path))  # refuses keys that it does not know
    kinds = {"cpu": "NO", "gpu": "NO", "ddp": "MULTI_GPU", "nodes": "MULTI_GPU", "fsdp2": "FSDP"}
    assert profile.distributed_type == kinds[path.stem]
    assert profile.mixed_precision == "no"  # run.precision of the recipe decides
    assert (profile.num_processes > 1) == (kinds[path.stem] != "NO")
    if path.stem == "fsdp2":
        # Otherwise from_pretrained leaves all processes but the first without weights.
        assert profile.fsdp_config == {"fsdp_version": 2, "fsdp_cpu_ram_efficient_loading": False}


def test_misspelt_key_names_the_right_one(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("optim: {learning_rat: 1}", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"optim\.learning_rat: did you mean optim\.learning_rate\?"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.epochs=soon", "optim.epochs is 'soon': expected float"),
        ("optim.batch_size=2.5", "optim.batch_size is 2.5: expected int"),
        ("run.precision=int3", "run.precision"),
        ("learning_rate=1", "section.key=value"),
        ("optim.epochs=0", "must be above 0"),
        ("data.max_zoom=0.9", "data.max_zoom is 0.9: it must be at least 0 and at most 0.5"),
        ("data.paste=0.5", "that is not one"),
        ("data.join=1.5", "data.join is 1.5: it must be at least 0 and at most 1"),
        ("data.join=0.5", "data.join is 0.5, of data.variants=0 copies: that is not one"),
        (
            "data.count_smoothing=0.67",
            "data.count_smoothing is 0.67: it must be at least 0 and below 0.666667",
        ),
        ("optim.compile=3", "expected bool"),
        ("optim.batch_size=.inf", "optim.batch_size is inf: expected int"),
        ("data.changes={rain: 0.1", "'data.changes={rain: 0.1': the value is not readable as YAML"),
        ("run.push_to_hub=2026-13-01", "the value is not readable as YAML (month must be in"),
        ("run.log_every=0", "run.log_every is 0: it must be at least 1"),
        ("run.seed=-1", "run.seed is -1: it must be at least 0"),
        ("optim.epochs=.inf", "optim.epochs is inf: it must be above 0 and finite"),
        ("optim.learning_rate=.nan", "optim.learning_rate is nan: it must be above 0 and finite"),
        ("data.changes={jpeg: 1, fog: 9}", "data.changes.fog is 9.0: it must be at least 0 and at most 1"),
        (
            "data.family_share={count: -2}",
            "data.family_share.count is -2.0: it must be at least 0 and finite",
        ),
        ("run.metric=retrieval", "run.metric is 'retrieval': use 'accuracy' or 'balanced_accuracy' or"),
    ],
)
def test_bad_overrides_are_refused(override, message):
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        load_recipe(ROOT / "configs" / "train" / "tiny.yaml", [override])


@pytest.mark.parametrize(
    "override",
    [
        *("optim.learning_rate=-1", "optim.learning_rate=0", "optim.epochs=.nan", "optim.weight_decay=-1"),
        *("optim.clip=-1", "optim.clip=0", "optim.clip=.nan", "optim.beta2=1.5", "optim.beta2=1"),
        *("optim.min_scale=7", "optim.max_minutes=-3", "optim.max_minutes=0", "optim.micro_batch_size=-1"),
        *("optim.decay=1.1", "optim.warmup=-0.1", "optim.ema=1", "loss.label_smoothing=2"),
        *("loss.patch_final=-1", "data.mirror=5", "data.rephrase=-1", "data.erase=3", "data.paste=1.5"),
        *("data.photometric=-1", "data.photometric=3", "data.frame_balance={weather: .nan}"),
        *("data.workers=-1", "data.limit_frames=-1", "data.variants=-1", "data.long_every=0"),
        *("run.validate_frames=0", "run.validate_frames=-5", "run.validate_every=-1", "run.patience=-1"),
    ],
)
def test_values_that_cannot_be_are_refused_with_what_can(override):
    key = override.partition("=")[0]
    with pytest.raises(RecipeError, match=rf"^{key}(\.\w+)? is .*: it must be (above|at least) \d"):
        load_recipe(ROOT / "configs" / "train" / "tiny.yaml", [override])


@pytest.mark.parametrize(
    "override", ["optim.clip=.inf", "optim.ema=0", "optim.decay=1", "data.photometric=2", "run.patience=0"]
)
def test_the_ends_of_a_range_that_belong_to_it_are_taken(override):
    load_recipe(ROOT / "configs" / "train" / "tiny.yaml", [override])


def test_no_copy_is_both_pasted_into_and_joined():
    shares = ["data.variants=4", "data.paste=0.75", "data.join=0.5"]
    with pytest.raises(RecipeError, match="more than 1 together"):
        load_recipe(ROOT / "configs" / "train" / "tiny.yaml", shares)


def test_the_best_captions_are_not_chosen_by_a_score_of_answers():
    path = ROOT / "configs" / "train" / "siglip_pretrain.yaml"
    for metric in METRICS["captions"]:
        assert load_recipe(path, [f"run.metric={metric}"]).run.metric == metric
    with pytest.raises(RecipeError, match=r"run\.metric is 'gain': use 'frame_to_caption' or"):
        load_recipe(path, ["run.metric=gain"])


def test_values_keep_their_types():
    recipe = load_recipe(
        ROOT / "configs" / "train" / "tiny.yaml",
        [
            "optim.learning_rate=5e-4",
            "run.precision=no",
            "optim.max_minutes=null",
            "run.trackers=[tensorboard]",
        ],
    )
    assert recipe.optim.learning_rate == 5e-4
    assert recipe.run.precision == "no"
    assert recipe.optim.max_minutes is None
    assert recipe.run.trackers == ["tensorboard"]


def test_a_written_recipe_reads_back_the_same(tmp_path):
    recipe = load_recipe(ROOT / "configs" / "train" / "first_light.yaml", ["run.seed=3"])
    path = tmp_path / "r.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["run"]["seed"] == 3


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: no such recipe"):
        load_recipe(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"broken\.yaml: not readable as YAML"):
        load_recipe(broken)


@pytest.mark.parametrize("wrong", ["optim.decay=0", "optim.warmup=1", "optim.optimizer=sgd"])
def test_an_optimiser_that_cannot_run_is_refused(make_recipe, wrong):
    with pytest.raises(RecipeError, match=wrong.partition("=")[0].replace(".", r"\.")):
        make_recipe(wrong)
