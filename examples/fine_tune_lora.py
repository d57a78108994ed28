"""Teach the default checkpoint your own frames with LoRA: two small matrices a layer learn, the rest stays.

Build the data set with scripts/build_own_dataset.py or scripts/build_dataset.py first.

Examples:
  python examples/fine_tune_lora.py --dataset data/own --output runs/lora
  python scripts/ask.py --checkpoint runs/lora/merged --image frame.jpg --text "Is there a car?"
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from traffic_vlm.processing.extras import needs

with needs("lora"):
    from accelerate import PartialState
    from peft import LoraConfig, get_peft_model
    from safetensors import SafetensorError
    from tqdm import trange
    from traffic_vlm.processing.loading import first_line, load_checkpoint
    from traffic_vlm.processing.pipeline_traffic_vlm import save_checkpoint
    from traffic_vlm.training.augmentation import normalise
    from traffic_vlm.training.collator import Batch, Collator
    from traffic_vlm.training.losses import answer_loss, answer_tokens, scored_positions
    from traffic_vlm.training.packing import open_packed, pack_split
    from traffic_vlm.training.sampling import QuestionWeights

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def fine_tune(options: argparse.Namespace) -> float:
    """Trains the adapter, writes it and the merged checkpoint; returns the last loss."""
    torch.manual_seed(options.seed)
    model, processor = load_checkpoint(options.checkpoint)
    vision, packed = model.config.vision_config, options.output / "packed"
    pack_split(options.dataset, "train", packed, tuple(vision.image_size))
    split = open_packed(packed, "train")
    weights = QuestionWeights(split.rows, balance=0.75)
    grid = tuple(vision.grid_size)
    placeholders = vision.num_patches if model.config.uses_prefix else 0
    collate = Collator(split, weights, processor.tokenizer, grid, 8, 0.5, 24, options.seed, placeholders)

    lora = LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules=TARGETS)
    device = PartialState().device
    adapted = get_peft_model(model, lora).to(device).train()
    adapted.print_trainable_parameters()
    learning = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, options.steps + 1)
    random = np.random.default_rng(options.seed)
    steps = trange(options.steps, desc="LoRA", disable=None)
    for step in steps:
        chosen = random.choice(len(split), min(options.batch_size, len(split)), replace=False)
        loss = loss_of(adapted, collate(step, chosen).to(device))
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        steps.set_postfix(loss=f"{loss.item():.3f}")

    adapted.save_pretrained(options.output / "adapter")
    save_checkpoint(options.output / "merged", adapted.merge_and_unload(), processor)
    return loss.item()


def loss_of(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The answers' loss, with the weights that make up for drawing rare answers more often."""
    # Frames first, then as many questions each: without image_index the rows are shared out evenly.
    output = model(
        input_ids=batch.input_ids,
        pixel_values=normalise(batch.pixel_values),
        logits_to_keep=scored_positions(batch.labels),
        use_cache=False,
    )
    total = answer_loss(output.logits, batch.labels, batch.row_weights)
    return total / answer_tokens(batch.labels, batch.row_weights).clamp(min=1)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line, trains, says where the result is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset", type=Path, required=True, help="folder made by scripts/build_*dataset.py"
    )
    parser.add_argument("--output", type=Path, required=True, help="where adapter/ and merged/ go")
    parser.add_argument("--checkpoint", default=str(ROOT / "checkpoints" / "traffic-vlm"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16, help="frames a step, with 8 questions each")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for name in ("steps", "batch_size", "rank"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    try:
        print(f"{options.output / 'merged'}: last loss {fine_tune(options):.3f}")
    except (OSError, ValueError, SafetensorError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
