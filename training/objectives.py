"""What a run learns: answers about frames, or which caption belongs to which frame.

An objective says what is trained, how its batches are made, the sums of its losses and what they are divided
by, and the table during training. Another one is a class with these methods and a line in `OBJECTIVES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
from traffic_vlm.modeling.grounding import grounding_loss, patch_loss
from transformers import PreTrainedTokenizerBase

from .augmentation import normalise
from .collator import Batch, Collator
from .consistency import PairBatch, PairCollator, consistency_loss
from .losses import answer_loss, answer_tokens, known_patches, rows_with_evidence, scored_positions
from .packing import PackedSplit
from .recipe import CAPTION_METRICS, Recipe
from .siglip import CaptionBatch, CaptionCollator, FrameCaptionModel, ring_sigmoid_loss
from .validation import validate

Table = tuple[list[dict[str, Any]], dict[str, float]]


class AnswerObjective:
    """Answers, what stands in each patch, and looking at the evidence.

    Attributes:
        parts: Names of the losses, in the order of `divisors`, `losses` and `weights`.
        collator: Class that makes the batches.
        module: What is trained.
    """

    parts: tuple[str, ...] = ("answers", "patches", "grounding")
    collator: type[Collator] = Collator

    def __init__(self, recipe: Recipe, network: TrafficVLMForConditionalGeneration) -> None:
        self.settings, self.network = recipe.loss, network
        self.module: nn.Module = network

    def divisors(self, batch: Batch) -> torch.Tensor:
        """What this micro-batch adds to the divisors of the loss sums, `(3,)`."""
        return torch.stack(
            [
                answer_tokens(batch.labels, batch.row_weights),
                known_patches(batch.patch_labels).float(),
                rows_with_evidence(batch.evidence).float(),
            ]
        )

    def losses(self, model: nn.Module, batch: Batch, images: torch.Tensor) -> torch.Tensor:
        """Sums of answer, patch and grounding loss of a micro-batch, `(3,)`."""
        grounded = self.network.config.grounding_heads
        output = model(
            input_ids=batch.input_ids,
            pixel_values=images,
            grounding_positions=batch.grounding_positions if grounded else None,
            logits_to_keep=scored_positions(batch.labels),
            use_cache=False,
        )
        smoothing, gamma = self.settings.label_smoothing, self.settings.focal_gamma
        answers = answer_loss(output.logits, batch.labels, batch.row_weights, smoothing, gamma)
        patches = grounding = answers.new_zeros(())
        if output.patch_logits is not None:
            known = known_patches(batch.patch_labels)
            patches = patch_loss(output.patch_logits.float(), batch.patch_labels) * known
        if grounded:
            rows = rows_with_evidence(batch.evidence)
            grounding = grounding_loss(output.grounding_maps, batch.evidence) * rows
        return torch.stack([answers, patches, grounding, *self.further_losses(output.logits, batch)])

    def further_losses(self, logits: torch.Tensor, batch: Batch) -> list[torch.Tensor]:
        """Sums of what an objective built on this one adds."""
        return []

    def weights(self, progress: float) -> list[float]:
        """Weights of the parts at a share of the run."""
        loss = self.settings
        patches = loss.patch_weight
        if loss.patch_final is not None:
            patches += (loss.patch_final - loss.patch_weight) * progress
        grounding = loss.grounding_weight + (loss.grounding_final - loss.grounding_weight) * progress
        return [1.0, patches, grounding]

    def table(
        self, tokenizer: PreTrainedTokenizerBase, split: PackedSplit, frames: list[int], show: bool
    ) -> Table:
        """Table by family and its means, see `validation.validate`."""
        return validate(self.network, tokenizer, split, frames, show_progress=show)


class ConsistentObjective(AnswerObjective):
    """Answers as above that do not contradict each other; see `consistency`."""

    parts = (*AnswerObjective.parts, "consistency")
    collator = PairCollator

    def divisors(self, batch: PairBatch) -> torch.Tensor:  # type: ignore[override]
        """As above, and the number of pairs, `(4,)`."""
        own = super().divisors(batch)
        return torch.cat([own, own.new_tensor([float(len(batch.pairs))])])

    def further_losses(self, logits: torch.Tensor, batch: PairBatch) -> list[torch.Tensor]:  # type: ignore[override]
        """The consistency loss, summed."""
        return [consistency_loss(logits, batch.labels, batch.pairs)]

    def weights(self, progress: float) -> list[float]:
        """Weights of the parts at a share of the run."""
        return [*super().weights(progress), self.settings.consistency_weight]


class CaptionObjective:
    """Which caption belongs to which frame; see `siglip`. Attributes as in `AnswerObjective`."""

    parts = ("captions",)
    collator: type[Collator] = CaptionCollator

    def __init__(self, recipe: Recipe, network: TrafficVLMForConditionalGeneration) -> None:
        self.network = network
        self.module: FrameCaptionModel = FrameCaptionModel(network)
        self.questions = recipe.data.questions_per_image

    def divisors(self, batch: CaptionBatch) -> torch.Tensor:
        """The number of frames, `(1,)`."""
        return torch.tensor([float(len(batch.last))], device=batch.last.device)

    def losses(self, model: nn.Module, batch: CaptionBatch, images: torch.Tensor) -> torch.Tensor:
        """The loss of this process's frames against the captions of all processes, `(1,)`."""
        return ring_sigmoid_loss(*model(images, batch.input_ids, batch.last))[None]

    def weights(self, progress: float) -> list[float]:
        """One part, of weight 1."""
        return [1.0]

    @torch.no_grad()
    def table(
        self, tokenizer: PreTrainedTokenizerBase, split: PackedSplit, frames: list[int], show: bool
    ) -> Table:
        """How often the nearest caption among those of all `frames` is the frame's own, and the reverse.

        Each frame's caption is its first questions with their answers. Chance is 1 / frames.
        """
        collator = CaptionCollator(split, None, tokenizer, (1, 1), self.questions, 0.0, 10**6, 0)  # type: ignore[arg-type]
        embedded = []
        for index in frames:
            questions = split.rows[index]["questions"]
            evenly = np.linspace(0, len(questions) - 1, min(self.questions, len(questions))).astype(int)
            caption = torch.tensor([collator.caption([questions[i] for i in evenly], flipped=False)])
            picture = torch.from_numpy(split.frames[index][None]).permute(0, 3, 1, 2)
            pixels = normalise(picture).to(self.network.device, self.network.dtype)
            last = torch.tensor([caption.shape[1] - 1], device=pixels.device)
            embedded.append(self.module(pixels, caption.to(pixels.device), last)[:2])
        pictures, captions = (torch.cat(side) for side in zip(*embedded, strict=True))
        likeness, own = pictures @ captions.T, torch.arange(len(frames), device=pictures.device)
        to_caption = float((likeness.argmax(1) == own).float().mean())
        to_frame = float((likeness.argmax(0) == own).float().mean())
        values = (to_caption, to_frame, (to_caption + to_frame) / 2)
        return [], dict(zip(CAPTION_METRICS, values, strict=True))


OBJECTIVES = {
    "answers": AnswerObjective,
    "consistent_answers": ConsistentObjective,
    "captions": CaptionObjective,
}
