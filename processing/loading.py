"""A checkpoint as a pipeline, with errors that say what is wrong with the folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

OWN_FOLDERS = {"checkpoints", "outputs", "runs"}
"""Where this project keeps checkpoints: no owner on the Hub is meant."""


def first_line(error: BaseException) -> str:
    """Keep an error to one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_checkpoint(checkpoint: str) -> None:
    """Refuse a checkpoint that lacks a part before anything heavy is loaded (FileNotFoundError).

    Args:
        checkpoint: A folder, or `owner/name` on the Hub. A misspelt folder must not be taken for the latter,
            whose code would be run.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        is_name = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", checkpoint)
        if folder.exists() or not is_name or folder.parent.is_dir() or folder.parent.name in OWN_FOLDERS:
            raise FileNotFoundError(f"{checkpoint}: no such checkpoint folder.")
        return
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no config.json in it, so this is not a checkpoint folder.")
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder}: no weights (model.safetensors) in it.")
    if not (folder / "processor_config.json").is_file():
        raise FileNotFoundError(f"{folder}: no processor_config.json in it.")
    # Everything is in the folder, so nothing is looked up elsewhere. transformers reads this when imported.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def load_checkpoint(checkpoint: str) -> tuple[Any, Any]:
    """Load a checkpoint with the copy of the code that lies beside its weights, as everybody else will.

    Args:
        checkpoint: A folder with `config.json`, weights and processor, or `owner/name` on the Hub.

    Returns:
        The model in float32 and evaluation mode, and its processor.

    Raises:
        ValueError: If something in it is missing or broken; the message names the checkpoint.
    """
    import torch
    import transformers

    try:
        loaded: Any = transformers.AutoModelForImageTextToText.from_pretrained(
            checkpoint, trust_remote_code=True, dtype=torch.float32, output_loading_info=True
        )
        model, found = loaded
        processor = transformers.AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
    except Exception as error:  # safetensors and tokenizers have classes of their own, down to a bare one
        text = first_line(error)
        named = text if checkpoint in text else f"{checkpoint}: the checkpoint cannot be loaded ({text})."
        raise ValueError(named) from error
    if found["missing_keys"]:
        # transformers would fill them with random numbers and answer.
        name = sorted(found["missing_keys"])[0]
        raise ValueError(f"{checkpoint}: the checkpoint lacks weights, {name} among them; export it again.")
    return model.eval(), processor


def load_pipeline(checkpoint: str, device: Any = None) -> Any:
    """Load a checkpoint as a question-answering pipeline, quietly.

    Args:
        checkpoint: As in `load_checkpoint`, which says what is raised.
        device: Where to; by default transformers' choice.
    """
    import transformers

    from .pipeline_traffic_vlm import TASK, TrafficQuestionAnsweringPipeline

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model, processor = load_checkpoint(checkpoint)
    return TrafficQuestionAnsweringPipeline(model=model, processor=processor, task=TASK, device=device)
