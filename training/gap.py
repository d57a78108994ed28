"""Whether the encoder learns too little or by heart: what it says of training frames against frames apart.

The patch head is asked what stands where, and its answers are ranked against the labels. Where training
frames score far better than others, more frames or more changes to them would help; where both score alike
and low, the network or its input is too small, or it has not learnt long enough.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from tqdm import tqdm
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration

from .augmentation import normalise
from .collator import IGNORED, PATCH_LABELS, patch_targets
from .packing import PackedSplit

FRAMES_AT_ONCE = 32


@torch.no_grad()
def patch_scores(
    model: TrafficVLMForConditionalGeneration, split: PackedSplit, frames: int, show_progress: bool = False
) -> dict[str, tuple[float, float]]:
    """How well the patch head ranks patches and frames, by label.

    Args:
        model: A network with a patch head over `PATCH_LABELS`, in evaluation mode.
        split: Packed frames; only originals are asked, evenly spread.
        frames: How many of them.
        show_progress: Whether to draw a bar.

    Returns:
        For each label the area under the ROC curve over frames (by the frame's strongest patch) and over
        patches; NaN where the label, or everything but it, is missing.

    Raises:
        ValueError: If the network has no such head.
    """
    if model.patch_head is None or model.config.num_patch_labels != len(PATCH_LABELS):
        raise ValueError(f"the checkpoint has no patch head over {len(PATCH_LABELS)} labels.")
    originals = [index for index, row in enumerate(split.rows) if row.get("copy", 0) == 0]
    spread = np.linspace(0, len(originals) - 1, min(frames, len(originals))).astype(int)
    chosen = [originals[place] for place in spread]
    grid = tuple(side // model.config.vision_config.patch_size for side in split.image_size)
    logits, targets = [], []
    for start in tqdm(range(0, len(chosen), FRAMES_AT_ONCE), disable=not show_progress):
        part = chosen[start : start + FRAMES_AT_ONCE]
        pictures = torch.from_numpy(np.stack([split.frames[index] for index in part])).permute(0, 3, 1, 2)
        pixel_values = normalise(pictures).to(model.device, model.dtype)
        patches = model.model.vision_tower(pixel_values).last_hidden_state
        logits.append(model.patch_head(patches).float().cpu().numpy())
        targets.append(np.stack([patch_targets(split.rows[index], grid, False) for index in part]))
    scores, truth = np.concatenate(logits), np.concatenate(targets)
    return {
        label: (
            _area(*_by_frame(scores[..., number], truth[..., number])),
            _area(*_known(scores[..., number], truth[..., number])),
        )
        for number, label in enumerate(PATCH_LABELS)
    }


def _by_frame(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strongest known patch of each frame, and whether the label is there; frames without any fall out."""
    known = truth != IGNORED
    some = known.any(1)
    strongest = np.where(known, scores, -np.inf).max(1)
    return strongest[some], (truth == 1).any(1)[some]


def _known(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scores[truth != IGNORED], truth[truth != IGNORED] == 1


def _area(scores: np.ndarray, truth: np.ndarray) -> float:
    return float(roc_auc_score(truth, scores)) if 0 < truth.sum() < len(truth) else float("nan")
