"""The network computes what SigLIP, Gemma and PaliGemma compute, with their weights copied over."""

import runpy
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from traffic_vlm.modeling import (
    TrafficVLMConfig,
    TrafficVLMForConditionalGeneration,
    TrafficVLMTextModel,
    TrafficVLMVisionModel,
    state_from_paligemma,
    text_config_from_gemma,
    text_state_from_gemma,
    vision_config_from_siglip,
    vision_state_from_siglip,
)
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Gemma2Config,
    Gemma2Model,
    GemmaConfig,
    GemmaForCausalLM,
    GemmaModel,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

# float32: the order of a few additions differs (fused scale in the attention product). bfloat16: 8 bits of
# mantissa, states of size 1, and a few layers in which roundings add up: about 4 units in the last place.
TOLERANCE = {torch.float32: {"atol": 1e-5, "rtol": 1e-5}, torch.bfloat16: {"atol": 4e-2, "rtol": 2e-2}}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
BACKENDS = pytest.mark.parametrize("backend", ["eager", "sdpa"])

SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
GEMMA = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Random values everywhere, norms and biases too: zeros and ones would hide a wrong place."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.25)
    return model.eval()


@DTYPES
@BACKENDS
def test_vision_encoder_is_siglip(dtype: torch.dtype, backend: str) -> None:
    siglip = randomise(SiglipVisionModel(SiglipVisionConfig(**SIGLIP, attn_implementation=backend))).to(dtype)
    config = vision_config_from_siglip(siglip.config)
    config._attn_implementation = backend
    ours = TrafficVLMVisionModel(config).eval().to(dtype)
    ours.load_state_dict(vision_state_from_siglip(siglip.state_dict(), config))
    pixels = torch.randn(2, 3, 32, 32).to(dtype)
    with torch.no_grad():
        expected = siglip(pixels, output_hidden_states=True)
        actual = ours(pixels, output_hidden_states=True)
    assert_close(actual.last_hidden_state, expected.last_hidden_state, **TOLERANCE[dtype])
    assert len(actual.hidden_states) == len(expected.hidden_states)
    for one, other in zip(actual.hidden_states, expected.hidden_states, strict=True):
        assert_close(one, other, **TOLERANCE[dtype])


def test_rectangular_positions_are_interpolated_as_siglip_does() -> None:
    siglip = randomise(SiglipVisionModel(SiglipVisionConfig(**SIGLIP)))
    config = vision_config_from_siglip(siglip.config, image_size=[24, 48])
    ours = TrafficVLMVisionModel(config).eval()
    ours.load_state_dict(vision_state_from_siglip(siglip.state_dict(), config))
    pixels = torch.randn(2, 3, 24, 48)
    with torch.no_grad():
        expected = siglip(pixels, interpolate_pos_encoding=True).last_hidden_state
        assert_close(ours(pixels).last_hidden_state, expected, **TOLERANCE[torch.float32])
        # And a model built for the square interpolates by itself when the rectangle comes in.
        square = TrafficVLMVisionModel(vision_config_from_siglip(siglip.config)).eval()
        square.load_state_dict(vision_state_from_siglip(siglip.state_dict(), square.config))
        assert_close(square(pixels).last_hidden_state, expected, **TOLERANCE[torch.float32])


@DTYPES
@BACKENDS
def test_decoder_is_gemma(dtype: torch.dtype, backend: str) -> None:
    gemma = randomise(GemmaModel(GemmaConfig(**GEMMA, attn_implementation=backend)))
    exact = gemma.rotary_emb.inv_freq
    gemma = gemma.to(dtype)
    gemma.rotary_emb.inv_freq = exact  # as when it is loaded in this dtype: a cast rounds it
    config = text_config_from_gemma(gemma.config)
    config._attn_implementation = backend
    ours = TrafficVLMTextModel(config).eval().to(dtype)
    ours.load_state_dict(text_state_from_gemma(gemma.state_dict()))
    ids = torch.randint(4, 96, (3, 9))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        expected = gemma(ids, attention_mask=mask).last_hidden_state
        actual = ours(ids, attention_mask=mask).last_hidden_state
    assert_close(actual[mask.bool()], expected[mask.bool()], **TOLERANCE[dtype])


def test_a_model_that_is_cast_turns_positions_as_one_that_is_loaded_so(tmp_path: Path) -> None:
    config = TrafficVLMConfig(text_config=text_config_from_gemma(GemmaConfig(**GEMMA)), fusion="none")
    model = TrafficVLMForConditionalGeneration(config).eval().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    loaded = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    for cast in (model, model.float().to(torch.bfloat16)):
        rotary, same = (m.model.language_model.rotary_emb for m in (cast, loaded))
        assert rotary.inv_freq.dtype == torch.float
        assert torch.equal(rotary.inv_freq, same.inv_freq)
        assert torch.equal(rotary.original_inv_freq, same.original_inv_freq)


def test_blind_model_is_gemma_for_causal_lm() -> None:
    gemma = randomise(GemmaForCausalLM(GemmaConfig(**GEMMA)))
    config = TrafficVLMConfig(text_config=text_config_from_gemma(gemma.config), fusion="none")
    ours = TrafficVLMForConditionalGeneration(config).eval()
    ours.model.language_model.load_state_dict(text_state_from_gemma(gemma.state_dict()))
    ids = torch.randint(4, 96, (2, 9))
    with torch.no_grad():
        expected, actual = gemma(ids, labels=ids), ours(ids, labels=ids)
    assert_close(actual.logits, expected.logits, **TOLERANCE[torch.float32])
    assert_close(actual.loss, expected.loss)


@DTYPES
@BACKENDS
def test_prefix_fusion_is_paligemma(dtype: torch.dtype, backend: str) -> None:
    image_token = 95
    pali_config = PaliGemmaConfig(
        vision_config={**SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config={**GEMMA, "model_type": "gemma"},
        image_token_index=image_token,
        projection_dim=GEMMA["hidden_size"],
        hidden_size=GEMMA["hidden_size"],
        attn_implementation=backend,
    )
    pali = randomise(PaliGemmaForConditionalGeneration(pali_config)).to(dtype)
    config = TrafficVLMConfig(
        vision_config=vision_config_from_siglip(pali_config.vision_config),
        text_config=text_config_from_gemma(pali_config.text_config),
        fusion="prefix",
        image_token_id=image_token,
        attn_implementation=backend,
    )
    ours = TrafficVLMForConditionalGeneration(config).eval().to(dtype)
    ours.load_state_dict(state_from_paligemma(pali.state_dict(), config))

    patches = config.vision_config.num_patches
    ids = torch.cat([torch.full((2, patches), image_token), torch.randint(4, 90, (2, 8))], dim=1)
    mask = torch.ones_like(ids)
    types = torch.zeros_like(ids)
    types[:, -4:] = 1  # image and question attend both ways, the answer causally
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "use_cache": False}
    pixels = torch.randn(2, 3, 32, 32).to(dtype)
    with torch.no_grad():
        expected = pali(pixel_values=pixels, **inputs).logits
        actual = ours(pixel_values=pixels, **inputs).logits
        causal = ours(pixel_values=pixels, **inputs | {"token_type_ids": torch.ones_like(ids)}).logits
    # Logits are sums of 48 products of states and weights: their size is 10 to 20, and so the error's.
    scale = expected.abs().max() if dtype == torch.bfloat16 else 1.0
    assert_close(actual / scale, expected / scale, **TOLERANCE[dtype])
    assert (causal - expected).abs().max() > 0.1, "the prefix must see both ways, or the test proves nothing"


def test_paligemma_weights_as_published_are_understood() -> None:
    """Before transformers 5, names had `vision_model.` and `language_model.model.` inside."""
    config = TrafficVLMConfig(
        vision_config=vision_config_from_siglip(SiglipVisionConfig(**SIGLIP)),
        text_config=text_config_from_gemma(GemmaConfig(**GEMMA)),
        fusion="prefix",
    )
    ours = TrafficVLMForConditionalGeneration(config)
    published = {
        "vision_tower.vision_model.embeddings.patch_embedding.weight": torch.zeros(32, 3, 8, 8),
        "vision_tower.vision_model.embeddings.position_embedding.weight": torch.zeros(16, 32),
        "multi_modal_projector.linear.weight": torch.zeros(48, 32),
        "language_model.model.embed_tokens.weight": torch.zeros(96, 48),
        "language_model.model.layers.0.self_attn.q_proj.weight": torch.zeros(64, 48),
    }
    mapped = state_from_paligemma(published, config)
    expected = ours.state_dict()
    assert len(mapped) == len(published) + 1  # and the tied output layer
    assert {name: tensor.shape for name, tensor in mapped.items()} == {n: expected[n].shape for n in mapped}


def test_from_siglip_gemma_reads_checkpoints_from_disk(tmp_path) -> None:
    siglip = randomise(
        SiglipModel(SiglipConfig(vision_config=SIGLIP, text_config={**SIGLIP, "vocab_size": 64}))
    )
    gemma = randomise(GemmaForCausalLM(GemmaConfig(**GEMMA)))
    siglip.save_pretrained(tmp_path / "siglip")
    gemma.save_pretrained(tmp_path / "gemma")

    model = TrafficVLMForConditionalGeneration.from_siglip_gemma(
        tmp_path / "siglip", tmp_path / "gemma", image_size=[16, 48], num_patch_labels=4
    )
    ids, pixels = torch.randint(4, 96, (2, 6)), torch.randn(1, 3, 16, 48)
    with torch.no_grad():
        answers = model(ids, pixels)
        # Gates are closed: the decoder answers exactly as Gemma does, whatever the image.
        assert_close(answers.logits, gemma(ids).logits, **TOLERANCE[torch.float32])
        seen = model.get_image_features(pixels).last_hidden_state
        expected = siglip.vision_model(pixels, interpolate_pos_encoding=True).last_hidden_state
        assert_close(seen, expected, **TOLERANCE[torch.float32])
    assert answers.patch_logits.shape == (1, 12, 4)


def test_from_siglip_gemma_refuses_checkpoints_of_another_kind(tmp_path) -> None:
    models = {
        "siglip": SiglipVisionModel(SiglipVisionConfig(**SIGLIP)),
        "clip": CLIPVisionModel(CLIPVisionConfig(**SIGLIP)),
        "gemma": GemmaModel(GemmaConfig(**GEMMA)),
        "gemma2": Gemma2Model(Gemma2Config(**GEMMA)),
    }
    folders = {name: tmp_path / name for name in models}
    for name, model in models.items():
        model.save_pretrained(folders[name])
    start = TrafficVLMForConditionalGeneration.from_siglip_gemma
    with pytest.raises(
        ValueError, match="gemma2 is not a first-generation Gemma, but of model_type 'gemma2'"
    ):
        start(folders["siglip"], folders["gemma2"])
    with pytest.raises(ValueError, match="clip is not a SigLIP, but of model_type 'clip_vision_model'"):
        start(folders["clip"], folders["gemma"])
    with pytest.raises(OSError, match="missing"):
        start(folders["siglip"], tmp_path / "missing")


def test_the_conversion_script_saves_a_checkpoint_or_says_why_not(tmp_path, capsys) -> None:
    script = Path(__file__).parents[2] / "scripts" / "convert_siglip_gemma.py"
    main = runpy.run_path(str(script))["main"]
    randomise(SiglipVisionModel(SiglipVisionConfig(**SIGLIP))).save_pretrained(tmp_path / "siglip")
    randomise(GemmaModel(GemmaConfig(**GEMMA))).save_pretrained(tmp_path / "gemma")
    arguments = ["--vision", str(tmp_path / "siglip"), "--text", str(tmp_path / "gemma"), "--output"]
    assert main([*arguments, str(tmp_path / "new"), "--image-size", "16", "48"]) == 0
    model = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path / "new")
    assert model.config.vision_config.image_size == [16, 48]
    assert main([*arguments, str(tmp_path / "bad"), "--image-size", "10", "48"]) == 2
    assert "change image_size or patch_size" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()
    (tmp_path / "file").write_text("", encoding="utf-8")
    for target in (tmp_path / "file", tmp_path / "file" / "new"):
        assert main([*arguments, str(target)]) == 2
        out, err = capsys.readouterr()
        assert not out
        # Loading writes progress bars there as well.
        assert [str(target) in line for line in err.splitlines() if "error: " in line] == [True]


def test_foreign_weights_are_refused() -> None:
    config = vision_config_from_siglip(SiglipVisionConfig(**SIGLIP))
    with pytest.raises(ValueError, match="no SigLIP weights"):
        vision_state_from_siglip({"conv1.weight": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match="not a square grid"):
        vision_state_from_siglip({"embeddings.position_embedding.weight": torch.zeros(12, 32)}, config)
