"""The encoder's own pre-training: SigLIP's pairwise sigmoid loss over frames and captions (Zhai et al. 2023).

The text tower is the model's own decoder without an image, so that a run leaves an ordinary checkpoint behind
whose encoder (or all of it) starts the next run: `model.init_from`, `model.init_parts`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import distributed, nn
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
from traffic_vlm.processing.bdd100k.mirror import mirror_text

from .collator import Collator
from .losses import sigmoid_loss
from .weather import asks_about_weather

FIRST_TEMPERATURE, FIRST_BIAS = 10.0, -10.0
"""Section 3.2: the many negatives start as nearly right, so that the first steps do not undo everything."""


@dataclass
class CaptionBatch:
    """Frames and a caption of each.

    Attributes:
        pixel_values: `(frames, 3, height, width)` uint8.
        input_ids: `(frames, length)`, padded on the right.
        last: `(frames,)` index of each caption's last token.
        keeps_weather: `(frames,)` bool, frames whose caption speaks of weather or light.
    """

    pixel_values: torch.Tensor
    input_ids: torch.Tensor
    last: torch.Tensor
    keeps_weather: torch.Tensor

    def to(self, device: torch.device) -> CaptionBatch:
        """The batch on a device."""
        return type(self)(**{name: value.to(device) for name, value in vars(self).items()})


class CaptionCollator(Collator):
    """Makes one caption a frame of its K questions with their answers."""

    def __call__(self, step: int, indices: np.ndarray) -> CaptionBatch:  # type: ignore[override]
        """Makes the batch of some packed rows; see `Collator`."""
        frames, captions, keeps = [], [], []
        allow_long = self.allows_long(step)
        for index in indices:
            rng = np.random.default_rng((self.seed, 1, step, int(index)))
            row, frame = self.split.rows[index], self.split.frames[index]
            flipped = rng.random() < self.mirror
            frames.append(frame[:, ::-1] if flipped else frame)
            chosen, _ = self._draw(index, rng, allow_long)
            questions = [row["questions"][question] for question in chosen]
            keeps.append(any(asks_about_weather(question["family"]) for question in questions))
            asked = [{**q, "question": self._words(q, rng, allow_long)} for q in questions]
            captions.append(self.caption(asked, flipped))
        input_ids = torch.full((len(captions), max(map(len, captions))), self.pad)
        for place, caption in enumerate(captions):
            input_ids[place, : len(caption)] = torch.tensor(caption)
        return CaptionBatch(
            pixel_values=torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2),
            input_ids=input_ids,
            last=torch.tensor([len(caption) - 1 for caption in captions]),
            keeps_weather=torch.tensor(keeps),
        )

    def caption(self, questions: list[dict[str, Any]], flipped: bool) -> list[int]:
        """Ids of questions and answers, one after the other."""
        texts = [text + "\n" for q in questions for text in (q["question"], q["answer"])]
        ids = [number for text in texts for number in self.encode(mirror_text(text) if flipped else text)]
        return [self.bos, *ids, self.eos]


class FrameCaptionModel(nn.Module):
    """Frames and captions as unit vectors of one space.

    Args:
        network: The model whose encoder is trained; its decoder reads the captions, and its last state of
            a caption, as in CLIP, stands for the caption.

    Attributes:
        pool: Attention of one learned query over the patches, as in SigLIP's own encoder.
        log_scale: Logarithm of the temperature t.
        bias: b.
    """

    def __init__(self, network: TrafficVLMForConditionalGeneration) -> None:
        super().__init__()
        width, text_width = (
            network.config.vision_config.hidden_size,
            network.config.text_config.hidden_size,
        )
        self.network = network
        self.query = nn.Parameter(torch.randn(1, 1, width) / math.sqrt(width))
        self.pool = nn.MultiheadAttention(
            width, network.config.vision_config.num_attention_heads, batch_first=True
        )
        self.caption_projection = nn.Linear(text_width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_TEMPERATURE)))
        self.bias = nn.Parameter(torch.tensor(FIRST_BIAS))
        for name, parameter in network.named_parameters():  # what captions and frames alone do not pass
            used = "vision_tower" in name or ("language_model" in name and "cross_att" not in name)
            parameter.requires_grad_(parameter.requires_grad and used)

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, last: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embeds frames and their captions.

        Args:
            pixel_values: `(frames, 3, height, width)`.
            input_ids: Captions `(frames, length)`, padded on the right.
            last: `(frames,)` index of each caption's last token.

        Returns:
            Frames and captions `(frames, width)` of unit length in float32, temperature t, bias b.
        """
        patches = self.network.model.vision_tower(pixel_values).last_hidden_state
        frames, _ = self.pool(self.query.expand(len(patches), -1, -1), patches, patches, need_weights=False)
        states = self.network.model.language_model(input_ids, use_cache=False).last_hidden_state
        captions = self.caption_projection(states[torch.arange(len(states), device=states.device), last])
        return (
            F.normalize(frames[:, 0].float(), dim=-1),
            F.normalize(captions.float(), dim=-1),
            self.log_scale.exp(),
            self.bias,
        )


class _Pass(torch.autograd.Function):
    """Sends a tensor to the next process of the ring and receives the one before's; gradients go back."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, tensor: torch.Tensor) -> torch.Tensor:
        return _exchange(tensor, 1)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return _exchange(gradient, -1)


def _exchange(tensor: torch.Tensor, step: int) -> torch.Tensor:
    """Gives a tensor to the process `step` further on and returns what the one `step` behind gave."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    sent, received = tensor.detach().contiguous(), torch.empty_like(tensor)
    for work in distributed.batch_isend_irecv(
        [
            distributed.P2POp(distributed.isend, sent, (rank + step) % world),
            distributed.P2POp(distributed.irecv, received, (rank - step) % world),
        ]
    ):
        work.wait()
    return received


def ring_sigmoid_loss(
    frames: torch.Tensor, captions: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """The sigmoid loss of this process's frames with the captions of all processes, summed.

    Captions travel round the ring one process at a time (section 3.3): no process ever holds more than one
    other's captions, and no more logits than its own frames times one process's captions.

    Args:
        frames: `(frames, width)` of this process, unit length; as many in every process.
        captions: `(frames, width)` of this process, unit length.
        scale: Temperature t.
        bias: Bias b.

    Returns:
        A scalar; the sum over processes, divided by all frames, is equation 1 of the paper.
    """
    total = sigmoid_loss(frames, captions, scale, bias)
    rounds = distributed.get_world_size() - 1 if distributed.is_initialized() else 0
    for _ in range(rounds):
        captions = _Pass.apply(captions)
        total = total + sigmoid_loss(frames, captions, scale, bias, positive=False)
    return total
