"""A small rendered data set, packed once for all tests of this folder."""

from pathlib import Path

import pytest
import torch
from traffic_vlm.processing.bdd100k.build import BuildOptions, build
from traffic_vlm.processing.synthetic import render_dataset
from traffic_vlm.training.recipe import Recipe, load_recipe

torch.set_num_threads(1)
RECIPE = """
model: {config: configs/models/tiny.json}
data: {questions_per_image: 6, workers: 0, photometric: 0.0, mirror: 0.0, balance: 0.5}
optim: {batch_size: 8, epochs: 2, learning_rate: 2.0e-3, ema: 0.9, warmup: 0.1}
run: {precision: no, validate_every: 0, validate_frames: 4, save_every: 100, log_every: 1}
"""


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rendered frames and their questions as a Parquet data set with splits train, tune and val."""
    folder = tmp_path_factory.mktemp("training")
    render_dataset(folder / "release", 40, seed=5)
    build(folder / "release", folder / "questions", BuildOptions(source="synthetic"))
    return folder / "questions"


@pytest.fixture
def make_recipe(questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes small recipes on that data set; keyword-free overrides as on the command line."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")

    def make(*overrides: str, output: str = "run") -> Recipe:
        where = [f"data.dataset={questions.as_posix()}", f"run.output={(tmp_path / output).as_posix()}"]
        return load_recipe(path, [*where, "run.validate_split=val", *overrides])

    return make
