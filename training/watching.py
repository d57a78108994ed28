"""What a person watches during a run: memory, gates, rates, and pictures of what the model looks at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch import nn
from traffic_vlm.evaluation.overlay import draw_overlay, stack_panels
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .packing import PackedSplit
from .sharding import whole
from .validation import inputs_of

# Measuring it takes many passes a picture, which is left to the evaluation.
NOT_MEASURED = "Whether the answer depends on what is coloured was not measured."


def cut_log(path: Path, step: int, table: int) -> None:
    """Drops what a killed run logged beyond the state that it goes on from, so that no step is there twice.

    Args:
        path: The run's `log.jsonl`; may be missing, and its last line broken off.
        step: Last step whose line stays.
        table: Step of the last table that stays.
    """
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["step"] <= {"table": table, "final": -1}.get(entry["kind"], step):
            kept.append(line)
    part = path.with_suffix(".part")
    part.write_text("".join(kept), encoding="utf-8", newline="\n")
    part.replace(path)


def memory_gib() -> dict[str, float]:
    """Resident memory of this process now and, on a GPU, its largest so far, in GiB."""
    memory = {"memory_gib": psutil.Process().memory_info().rss / 2**30}
    if torch.cuda.is_available():
        memory["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return memory


def gates(network: nn.Module) -> dict[str, float]:
    """How far each cross-attention is open (0 closed, 1 open), and their mean."""
    opened = [
        float(whole(p.detach()).float().tanh().abs().mean())
        for name, p in network.named_parameters()
        if name.endswith("cross_attn.gate")
    ]
    layers = {f"gate/{layer}": value for layer, value in enumerate(opened)}
    return {"gate": float(np.mean(opened)) if opened else 0.0, **layers}


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Learning rates of the groups."""
    return {f"rate/{group['name']}": group["lr"] for group in optimizer.param_groups}


def draw_examples(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: PackedSplit, count: int, path: Path
) -> None:
    """Draws some frames with a question, the answer and where the model looked.

    The same frames and questions every time, so that the pictures of a run can be compared.

    Args:
        model: The network, in evaluation mode.
        tokenizer: Its tokenizer.
        split: Packed frames.
        count: How many.
        path: PNG to write.
    """
    panels = []
    for index in np.linspace(0, len(split) - 1, min(count, len(split))).astype(int):
        questions = split.rows[index]["questions"]
        about = [question for question in questions if question["evidence"]] or questions
        question = about[index % len(about)]["question"]
        inputs = inputs_of(model, tokenizer, split.frames[index][None], [(0, question)])
        out = model.generate(
            **inputs, max_new_tokens=16, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        new = out.sequences[0, inputs["input_ids"].shape[1] :]
        chances = torch.stack(out.logits, dim=1)[0].float().log_softmax(-1)
        confidence = float(chances.gather(-1, new[:, None]).sum().exp())
        grid = model.config.vision_config.grid_size
        heat = np.ones(grid) / np.prod(grid)
        if model.config.uses_cross_attention:
            heat = model.get_evidence_maps(**inputs)[0].float().cpu().numpy()
        answer = tokenizer.decode(new, skip_special_tokens=True).strip()
        picture = Image.fromarray(split.frames[index])
        panels.append(draw_overlay(picture, heat, question, answer, confidence, note=NOT_MEASURED))
    path.parent.mkdir(parents=True, exist_ok=True)
    stack_panels(panels).save(path)
