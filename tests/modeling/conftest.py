"""Tiny networks: every test of the network runs on a few thousand weights."""

from collections.abc import Callable

import pytest
import torch
from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration

IMAGE_TOKEN, EOS = 3, 2
GRID = (2, 4)
FUSIONS = ("cross_attention", "prefix", "both", "none")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=FUSIONS)
def fusion(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tiny_config() -> Callable[..., TrafficVLMConfig]:
    """A config of 16x32 images (2x4 patches of 8), two layers each, grouped-query, open gates."""

    def build(
        fusion: str = "cross_attention", vision: dict | None = None, text: dict | None = None, **fields
    ):
        vision_fields = {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [16, 32],
            "patch_size": 8,
        }
        text_fields = {
            "vocab_size": 40,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
        }
        fields = {"cross_attention_gate_init": 1.0, **fields}
        return TrafficVLMConfig(
            vision_config=vision_fields | (vision or {}),
            text_config=text_fields | (text or {}),
            fusion=fusion,
            **fields,
        )

    return build


@pytest.fixture
def tiny_model(tiny_config: Callable) -> Callable[..., TrafficVLMForConditionalGeneration]:
    """A model in evaluation mode; takes the arguments of `tiny_config`."""

    def build(*args, **kwargs) -> TrafficVLMForConditionalGeneration:
        return TrafficVLMForConditionalGeneration(tiny_config(*args, **kwargs)).eval()

    return build


@pytest.fixture
def tiny_inputs() -> Callable[..., dict[str, torch.Tensor]]:
    """`rows` questions shared evenly by `images` images, with `<image>` tokens if the fusion wants them."""

    def build(
        config: TrafficVLMConfig, rows: int = 4, images: int = 2, length: int = 5
    ) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(4, config.text_config.vocab_size, (rows, length), generator=generator)
        if config.uses_prefix:
            ids = torch.cat([torch.full((rows, GRID[0] * GRID[1]), IMAGE_TOKEN), ids], dim=1)
        pixels = torch.randn(images, 3, 16, 32, generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}

    return build


@pytest.fixture
def left_padded() -> Callable[[torch.Tensor, list[int]], tuple[torch.Tensor, torch.Tensor]]:
    """Drops each row's last tokens and pads it on the left by as many; returns ids and attention mask."""

    def pad(rows: torch.Tensor, padding: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = torch.zeros_like(rows), torch.zeros_like(rows)
        for row, pads in enumerate(padding):
            ids[row, pads:] = rows[row, : rows.shape[1] - pads]
            mask[row, pads:] = 1
        return ids, mask

    return pad
