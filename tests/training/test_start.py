"""What a run takes along from the checkpoint that it starts from."""

import json

import pytest
import torch
from torch.testing import assert_close
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
from traffic_vlm.training.recipe import RecipeError
from traffic_vlm.training.setup import build_model, read_model_config, take_weights
from traffic_vlm.training.trainer import Trainer


@pytest.fixture
def tiny(make_recipe, tmp_path):
    """The folder of a checkpoint of the smallest network, without a tokenizer."""
    network = TrafficVLMForConditionalGeneration(read_model_config(make_recipe()))
    network.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def changed(make_recipe, tmp_path, text=(), **fields):
    """A network like the smallest, with other fields."""
    config = read_model_config(make_recipe()).to_dict()
    config["text_config"] |= dict(text)
    (tmp_path / "changed.json").write_text(json.dumps(config | fields), encoding="utf-8")
    recipe = make_recipe(f"model.config={(tmp_path / 'changed.json').as_posix()}")
    return TrafficVLMForConditionalGeneration(read_model_config(recipe))


def test_finer_frames_and_a_deeper_stem_start_from_what_was_learnt(make_recipe, tmp_path):
    config = read_model_config(make_recipe("model.config=configs/models/small.json"))
    coarse = TrafficVLMForConditionalGeneration(config).eval()
    coarse.save_pretrained(tmp_path / "coarse")

    finer = read_model_config(make_recipe("model.config=configs/models/sharp.json"))
    start = TrafficVLMForConditionalGeneration(finer).eval()
    take_weights(start, str(tmp_path / "coarse"))
    assert start.config.vision_config.grid_size != config.vision_config.grid_size
    # A model interpolates its positions to frames of another size; the start has done so for good.
    frame = torch.rand(1, 3, *finer.vision_config.image_size)
    with torch.no_grad():
        expected = coarse.model.vision_tower(frame).last_hidden_state
        assert_close(start.model.vision_tower(frame).last_hidden_state, expected)


def test_what_is_not_taken_is_said(make_recipe, tmp_path, tiny, capsys):
    take_weights(changed(make_recipe, tmp_path), str(tiny))
    assert capsys.readouterr().out == "", "all of it fits"
    take_weights(changed(make_recipe, tmp_path, text={"vocab_size": 128}), str(tiny))
    said = capsys.readouterr().out
    assert f"tensors of {tiny} do not fit model.config (lm_head.weight, model.language_model.embed" in said
    assert said.startswith("model.init_from: 2 of ")
    assert said.count("\n") == 1


def test_a_checkpoint_of_another_network_is_refused(make_recipe, tmp_path, tiny):
    blind = changed(make_recipe, tmp_path, fusion="none", grounding_heads=[])
    with pytest.raises(RecipeError, match=r"do not fit model\.config \(.*, \.\.\.\)\. Use the config\.json"):
        take_weights(blind, str(tiny))
    with pytest.raises(RecipeError, match=r"model\.init_from: (\d+) of \1 tensors .*do not fit"):
        take_weights(blind, str(tiny), ["vision_tower"])
    take_weights(blind, str(tiny), ["language_model"])  # all of it but cross-attention


def test_the_words_are_those_of_the_weights(make_recipe, tiny):
    first = Trainer(make_recipe(output="first"))
    options = (f"model.init_from={tiny.as_posix()}",)
    first.tokenizer.add_tokens(["a word of its own"])
    first.tokenizer.save_pretrained(tiny)
    second = Trainer(make_recipe(*options, output="second"))
    assert second.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    assert not (second.output / "tokenizer").exists()
    # Where the embeddings are not taken, words are those of the run's own questions, as without a checkpoint.
    parts = Trainer(make_recipe(*options, "model.init_parts=[vision_tower]", output="parts"))
    assert "a word of its own" not in parts.tokenizer.get_vocab()
    (tiny / "tokenizer.json").unlink()
    own = Trainer(make_recipe(*options, output="own"))
    assert (own.output / "tokenizer" / "tokenizer.json").is_file()
    first.tokenizer.save_pretrained(tiny)  # a run that began with its own words goes on with them
    assert "a word of its own" not in Trainer(make_recipe(*options, output="own")).tokenizer.get_vocab()


def test_a_network_that_sees_nothing_has_nothing_to_freeze(make_recipe, tmp_path):
    blind = changed(make_recipe, tmp_path, fusion="none", grounding_heads=[])
    recipe = make_recipe("model.freeze_vision=true")
    assert all(weight.requires_grad for weight in build_model(blind.config, recipe).parameters())
    seeing = build_model(read_model_config(recipe), recipe)
    assert not any(weight.requires_grad for weight in seeing.model.vision_tower.parameters())
