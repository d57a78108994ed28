"""generate() gives what the uncached loop gives, whatever the strategy, the padding or the cache."""

import copy

import pytest
import torch
from torch.testing import assert_close
from transformers import CompileConfig, DynamicCache, StaticCache

EOS = 2
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
STEPS = 6


@pytest.fixture
def model(fusion, tiny_model):
    return tiny_model(fusion)


@pytest.fixture
def inputs(model, tiny_inputs, left_padded):
    """Four questions of different lengths about two images, unevenly assigned and padded on the left."""
    inputs = tiny_inputs(model.config, rows=4, images=2)
    inputs["input_ids"], inputs["attention_mask"] = left_padded(inputs["input_ids"], [0, 3, 1, 0])
    return inputs | {"image_index": torch.tensor([0, 1, 1, 1])}


def uncached_greedy(model, inputs: dict, steps: int = STEPS) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The plain loop: the whole sequence through the model for each new token."""
    inputs = dict(inputs)
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    done = torch.zeros(ids.shape[0], dtype=torch.bool)
    scores = []
    for _ in range(steps):
        with torch.no_grad():
            logits = model(ids, attention_mask=mask, use_cache=False, **inputs).logits[:, -1].float()
        scores.append(logits)
        token = torch.where(done, 0, logits.argmax(dim=-1))
        done |= token == EOS
        ids = torch.cat([ids, token[:, None]], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        if done.all():
            break
    return ids, scores


def test_greedy(model, inputs) -> None:
    expected, expected_scores = uncached_greedy(model, inputs)
    out = model.generate(
        **inputs, max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    assert torch.equal(out.sequences, expected)
    for actual, wanted in zip(out.logits, expected_scores, strict=True):
        assert_close(actual, wanted, **CLOSE)
    uncached = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False, use_cache=False)
    assert torch.equal(uncached, expected)


def test_left_padding_does_not_change_an_answer(model, inputs) -> None:
    batch = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    length = inputs["input_ids"].shape[1]
    for row in range(4):
        real = inputs["attention_mask"][row].bool()
        image = int(inputs["image_index"][row])
        alone = model.generate(
            input_ids=inputs["input_ids"][row : row + 1, real],
            attention_mask=torch.ones(1, int(real.sum()), dtype=torch.long),
            pixel_values=inputs["pixel_values"][image : image + 1],
            max_new_tokens=STEPS,
            do_sample=False,
        )
        answer = alone[0, int(real.sum()) :]
        assert torch.equal(batch[row, length : length + len(answer)], answer)


def test_sampling_is_seeded_and_cache_free(model, inputs) -> None:
    answers = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        answers.append(
            model.generate(**inputs, max_new_tokens=STEPS, do_sample=True, top_k=8, use_cache=use_cache)
        )
    assert torch.equal(*answers)


def test_num_return_sequences(model, inputs) -> None:
    torch.manual_seed(3)
    many = model.generate(**inputs, max_new_tokens=STEPS, do_sample=True, num_return_sequences=3)
    assert many.shape[0] == 12
    prompts = many[:, : inputs["input_ids"].shape[1]]
    assert torch.equal(prompts, inputs["input_ids"].repeat_interleave(3, dim=0))
    # A row's samples are about its own image: their scores are those of the question asked alone.
    torch.manual_seed(3)
    out = model.generate(
        **inputs,
        max_new_tokens=1,
        do_sample=True,
        num_return_sequences=2,
        return_dict_in_generate=True,
        output_logits=True,
    )
    with torch.no_grad():
        expected = model(**inputs).logits[:, -1]
    assert_close(out.logits[0], expected.repeat_interleave(2, dim=0), **CLOSE)


def test_beams(model, inputs) -> None:
    options = {"max_new_tokens": STEPS, "num_beams": 3, "num_return_sequences": 2, "do_sample": False}
    cached = model.generate(**inputs, **options, return_dict_in_generate=True, output_scores=True)
    uncached = model.generate(
        **inputs, **options, use_cache=False, return_dict_in_generate=True, output_scores=True
    )
    assert torch.equal(cached.sequences, uncached.sequences)
    assert_close(cached.sequences_scores, uncached.sequences_scores, **CLOSE)
    transitions = model.compute_transition_scores(
        cached.sequences, cached.scores, cached.beam_indices, normalize_logits=False
    )
    lengths = (transitions < 0).sum(dim=1)
    assert_close(transitions.sum(dim=1) / lengths, cached.sequences_scores, atol=1e-4, rtol=1e-4)


def test_output_attentions(model, inputs) -> None:
    out = model.generate(
        **inputs,
        max_new_tokens=3,
        min_new_tokens=3,
        do_sample=False,
        return_dict_in_generate=True,
        output_attentions=True,
        output_hidden_states=True,
    )
    prompt = inputs["input_ids"].shape[1]
    assert len(out.attentions) == len(out.hidden_states) == 3
    assert [tuple(maps.shape) for maps in out.attentions[0]] == [(4, 4, prompt, prompt)] * 2
    assert [tuple(maps.shape) for maps in out.attentions[2]] == [(4, 4, 1, prompt + 2)] * 2


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_static_cache(backend, model, inputs) -> None:
    model.set_attn_implementation(backend)
    expected, _ = uncached_greedy(model, inputs)
    static = model.generate(
        **inputs,
        max_new_tokens=STEPS,
        do_sample=False,
        cache_implementation="static",
        disable_compile=True,
        return_dict_in_generate=True,
    )
    assert isinstance(static.past_key_values, StaticCache)
    assert torch.equal(static.sequences, expected)


@pytest.mark.parametrize(
    ("seeing", "index"), [("cross_attention", None), ("both", None), ("both", [1, 0, 1, 1])]
)
def test_static_cache_compiled(seeing, index, tiny_model, tiny_inputs) -> None:
    """One graph for all steps of two generations: a new image neither compiles anew nor is missed."""
    model = tiny_model(seeing)
    inputs = tiny_inputs(model.config) | ({} if index is None else {"image_index": torch.tensor(index)})
    others = {**inputs, "pixel_values": inputs["pixel_values"].flip(0) * 2}
    options = {"max_new_tokens": STEPS, "do_sample": False, "eos_token_id": -1}
    expected = [model.generate(**batch, **options) for batch in (inputs, others)]

    compile_config = CompileConfig(fullgraph=True, dynamic=False, mode=None, backend="aot_eager")
    compile_config._compile_all_devices = True  # or generate() compiles on accelerators only
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    options |= {"cache_implementation": "static", "compile_config": compile_config}
    for batch, plain in zip((inputs, others), expected, strict=True):
        assert torch.equal(model.generate(**batch, **options), plain)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_continuing_from_a_cache(model, inputs) -> None:
    """A cache of the first tokens, then the rest in one go, without the pixels: the image stays known."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    images = {name: inputs[name] for name in ("pixel_values", "image_index")}
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, **images).logits
        cache = DynamicCache(config=model.config.text_config)
        model(ids[:, :-2], attention_mask=mask[:, :-2], past_key_values=cache, use_cache=True, **images)
        rest = model(ids[:, -2:], attention_mask=mask, past_key_values=cache, use_cache=True).logits
    assert_close(rest, expected[:, -2:], **CLOSE)


def test_generate_continues_from_returned_cache(model, inputs) -> None:
    options = {"do_sample": False, "return_dict_in_generate": True, "eos_token_id": -1}
    whole = model.generate(**inputs, max_new_tokens=STEPS, **options)
    first = model.generate(**inputs, max_new_tokens=3, **options)
    mask = torch.cat([inputs["attention_mask"], torch.ones(4, 3, dtype=torch.long)], dim=1)
    second = model.generate(
        input_ids=first.sequences,
        attention_mask=mask,
        past_key_values=first.past_key_values,
        max_new_tokens=3,
        **options,
    )
    assert torch.equal(second.sequences, whole.sequences)
    # The pixels may be given again: cross-attention encodes them anew, a prefix stays as it is in the cache.
    first = model.generate(**inputs, max_new_tokens=3, **options)
    images = {name: inputs[name] for name in ("pixel_values", "image_index")}
    third = model.generate(
        input_ids=first.sequences,
        attention_mask=mask,
        past_key_values=first.past_key_values,
        max_new_tokens=3,
        **images,
        **options,
    )
    assert torch.equal(third.sequences, whole.sequences)


def test_a_new_image_replaces_the_kept_one(tiny_model, tiny_inputs) -> None:
    """A cache that is emptied and used again must not answer about the image before."""
    model = tiny_model()
    inputs = tiny_inputs(model.config, rows=2, images=2)
    cache = StaticCache(config=model.config.text_config, max_cache_len=16)
    with torch.no_grad():
        model(**inputs, past_key_values=cache, use_cache=True)
        cache.reset()
        inputs["pixel_values"] = inputs["pixel_values"] + 1.0
        again = model(**inputs, past_key_values=cache, use_cache=True).logits
        assert_close(again, model(**inputs, use_cache=False).logits, **CLOSE)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_an_emptied_cache_forgets_the_image(kind, tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    text = model.config.text_config
    cache = DynamicCache(config=text) if kind == "dynamic" else StaticCache(config=text, max_cache_len=16)
    inputs = tiny_inputs(model.config, rows=2, images=2)
    blind = {"input_ids": inputs["input_ids"]}
    with torch.no_grad():
        expected = model(**blind, use_cache=False).logits
        model(**inputs, past_key_values=cache, use_cache=True)
        cache.reset()
        first = model(inputs["input_ids"][:, :-1], past_key_values=cache, use_cache=True).logits
        last = model(inputs["input_ids"][:, -1:], past_key_values=cache, use_cache=True).logits
    assert_close(torch.cat([first, last], dim=1), expected, **CLOSE)


def test_batch_reordering_leaves_images_alone(tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config, rows=4, images=2)
    with torch.no_grad():
        cache = model(**inputs, use_cache=True).past_key_values
        keys = cache.image_memory.keys_values[0][0].clone()
        cache.reorder_cache(torch.tensor([1, 0, 3, 2]))
    assert torch.equal(cache.image_memory.keys_values[0][0], keys)


@pytest.mark.parametrize("side", ["left", "right"])
def test_score_answers_is_the_sum_of_token_log_probabilities(side, model, inputs) -> None:
    candidates = [[5, EOS], [7, 9, 11, EOS], [6, EOS]]
    scored = dict(inputs)
    if side == "right":
        order = (1 - inputs["attention_mask"]).argsort(dim=1, stable=True)
        scored["input_ids"] = inputs["input_ids"].gather(1, order)
        scored["attention_mask"] = inputs["attention_mask"].gather(1, order)
    scores = model.score_answers(scored, candidates)
    assert scores.shape == (4, 3)
    for row in range(4):
        real = inputs["attention_mask"][row].bool()
        prompt = inputs["input_ids"][row, real]
        image = int(inputs["image_index"][row])
        for column, answer in enumerate(candidates):
            ids = torch.cat([prompt, torch.tensor(answer)])[None]
            with torch.no_grad():
                logits = (
                    model(ids, inputs["pixel_values"][image : image + 1]).logits[0].float().log_softmax(-1)
                )
            expected = sum(logits[len(prompt) - 1 + i, token] for i, token in enumerate(answer))
            assert_close(scores[row, column], expected, atol=1e-4, rtol=1e-4)


def test_score_answers_takes_other_candidates_for_each_row(tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config, rows=2, images=1)
    scores = model.score_answers(inputs, [[[5, EOS]], [[5, EOS], [6, EOS]]])
    assert scores[0, 1] == float("-inf")
    assert_close(scores[1], model.score_answers(inputs, [[5, EOS], [6, EOS]])[1])
    with pytest.raises(ValueError, match="non-empty"):
        model.score_answers(inputs, [[5], []])
    second_only = model.score_answers(inputs, [[], [[5, EOS]]])
    assert second_only[0].tolist() == [float("-inf")]
    assert_close(second_only[1], scores[1, :1])
    for nothing in ([], [[], []]):
        with pytest.raises(ValueError, match="no answer to score"):
            model.score_answers(inputs, nothing)


def test_other_ways_in(model, inputs) -> None:
    """From embeddings, with a draft model, and with drafts from the prompt: the same answer."""
    options = {"max_new_tokens": STEPS, "do_sample": False, "suppress_tokens": [3], "eos_token_id": -1}
    expected = model.generate(**inputs, **options)
    embedded = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}
    embedded["inputs_embeds"] = model.get_input_embeddings()(inputs["input_ids"])
    assert torch.equal(model.generate(**embedded, **options), expected[:, inputs["input_ids"].shape[1] :])

    first = {name: tensor[:1] for name, tensor in inputs.items()}
    assert torch.equal(model.generate(**first, **options, prompt_lookup_num_tokens=2), expected[:1])
    draft = copy.deepcopy(model)
    assert torch.equal(model.generate(**first, **options, assistant_model=draft), expected[:1])
