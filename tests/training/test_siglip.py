import math

import numpy as np
import pytest
import torch
from traffic_vlm.training.recipe import METRICS, RecipeError, load_recipe
from traffic_vlm.training.trainer import Trainer

CAPTIONS = ("loss.objective=captions", "run.metric=retrieval")


@pytest.mark.slow
def test_captions_are_told_apart_by_their_frames(make_recipe):
    made = make_recipe(output="captions")
    options = ["data.variants=0", "data.limit_frames=8", "data.workers=0", "data.photometric=0"]
    options += ["data.changes={}", "data.mirror=0", "data.questions_per_image=4", "run.precision=no"]
    options += ["model.config=configs/models/tiny.json", "optim.batch_size=8", "optim.epochs=120"]
    options += ["data.family_share={count: 50, time_of_day: 50, weather: 50, detect: 0, place: 50}"]
    options += [f"data.dataset={made.data.dataset}", f"run.output={made.run.output}"]
    options += ["optim.learning_rate=3e-3", "run.validate_split=val"]
    trainer = Trainer(load_recipe("configs/train/siglip_pretrain.yaml", options))
    assert trainer.module.log_scale.exp().item() == pytest.approx(10)  # the paper's start
    assert trainer.module.bias.item() == -10
    loader, losses = iter(trainer._loader(0)), []
    for _ in range(100):
        losses.append(trainer._step(next(loader))["captions"])
        trainer.position["step"] += 1
    # What a model reaches that says "one in eight" of every pair, whatever it sees.
    blind = 8 * -(1 / 8 * math.log(1 / 8) + 7 / 8 * math.log(7 / 8))
    assert np.mean(losses[-10:]) < 0.95 * blind < losses[0]
    assert trainer.network.model.language_model.layers[0].cross_attn.gate.grad is None
    _, summary = trainer.objective.table(trainer.tokenizer, trainer.split, list(range(4)), False)
    assert summary.keys() == set(METRICS["captions"])
    assert 0 <= summary["retrieval"] <= 1


def test_a_caption_holds_questions_and_answers_and_changes_sides(make_recipe):
    trainer = Trainer(make_recipe(*CAPTIONS, output="sides"))
    collator = trainer._loader(0).dataset.collator
    question = {"question": "Is the left lane clear?", "answer": "Yes, it is clear."}
    ids = collator.caption([question], flipped=True)
    assert trainer.tokenizer.decode(ids[1:-1]) == "Is the right lane clear?\nYes, it is clear.\n"
    batch = collator(0, np.arange(3))
    assert (batch.input_ids[torch.arange(3), batch.last] == trainer.tokenizer.eos_token_id).all()


def test_captions_ask_in_words_drawn_anew_where_a_recipe_wants_it(make_recipe):
    collator = Trainer(make_recipe(*CAPTIONS, output="words"))._loader(0).dataset.collator
    asked = (question for row in collator.split.rows for question in row["questions"])
    question = next(q for q in asked if q["family"].startswith("presence_"))
    collator.split.rows = [{"questions": [question]}]
    collator.weights.draw = lambda *_: (np.zeros(1, dtype=int), np.ones(1))

    def captions():
        ids = [collator(step, np.zeros(1, dtype=int)).input_ids[0] for step in range(20)]
        return {collator.tokenizer.decode(caption[1:-1]) for caption in ids}

    assert captions() == {f"{question['question']}\n{question['answer']}\n"}
    collator.rephrase = 1.0
    assert len(captions()) > 3
    assert all(caption.endswith(f"\n{question['answer']}\n") for caption in captions())


def test_captions_are_not_compared_in_pieces(make_recipe):
    with pytest.raises(RecipeError, match="micro_batch_size"):
        make_recipe(*CAPTIONS, "optim.micro_batch_size=2")
