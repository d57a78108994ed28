"""Writes a checkpoint as three graphs, for ONNX Runtime or as `torch.export` programs.

The folder holds everything that answering needs: `encoder`, `prefill` and `decode` (`.onnx` or `.pt2`), the
processor, and `export.json` with what the runtime must know. No pickled code is needed for `.onnx`.
"""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import transformers
from traffic_vlm.processing.loading import load_checkpoint
from traffic_vlm.processing.pipeline_traffic_vlm import ABSTAIN_THRESHOLD, setting_of

from .graphs import three_graphs

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2"}


def load(checkpoint: str | Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load a checkpoint's model, in evaluation mode, and its processor.

    Raises:
        OSError: If there is no checkpoint.
        ValueError: If it cannot be loaded, or lacks weights.
    """
    folder = Path(checkpoint)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no checkpoint here (config.json is missing).")
    model, processor = load_checkpoint(str(folder))
    return model.to(dtype), processor


def export(
    checkpoint: str | Path,
    output: str | Path,
    format: str = "onnx",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Export a checkpoint.

    Args:
        checkpoint: Folder of a TrafficVLM checkpoint whose image enters through cross-attention.
        output: Folder to write; made if need be.
        format: "onnx" or "torch_export".
        dtype: Of the weights. ONNX Runtime's CPU kernels want float32.

    Returns:
        `output`.

    Raises:
        OSError: If there is no checkpoint.
        ValueError: If the format is unknown or the checkpoint's fusion cannot be exported.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is unknown: use {' or '.join(FORMATS)}.")
    model, processor = load(checkpoint, dtype)
    graphs = three_graphs(model)
    first = next(graphs)  # refuses before anything is written
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "export.json").unlink(missing_ok=True)  # written last: whoever finds it has everything
    write = write_onnx if format == "onnx" else write_torch_export
    for name, module, inputs, axes in (first, *graphs):
        write(module.eval(), inputs, axes, output / f"{name}{FORMATS[format]}")
    processor.save_pretrained(output)
    (output / "export.json").write_text(
        json.dumps(settings_of(model, format), indent=2) + "\n", encoding="utf-8"
    )
    return output


def settings_of(model: Any, format: str) -> dict[str, Any]:
    """What the runtime must know of the model, for `export.json`."""
    patch, (height, width) = model.config.vision_config.patch_size, model.config.vision_config.image_size
    return {
        "format": format,
        "dtype": str(model.dtype).removeprefix("torch."),
        "grid": [height // patch, width // patch],
        "confidence_temperature": float(setting_of(model, "confidence_temperature", 1.0)),
        "abstain_threshold": float(setting_of(model, "abstain_threshold", ABSTAIN_THRESHOLD)),
    }


def write_torch_export(
    module: torch.nn.Module, inputs: dict[str, torch.Tensor], axes: dict[str, Any], path: Path
) -> None:
    """Write one graph as a `torch.export` program."""
    with torch.no_grad():
        program = torch.export.export(module, (), inputs, dynamic_shapes=axes)
    torch.export.save(program, path)


def write_onnx(
    module: torch.nn.Module, inputs: dict[str, torch.Tensor], axes: dict[str, Any], path: Path
) -> None:
    """Write one graph as ONNX, weights inside.

    Through transformers' exporter; through torch's where transformers has none yet.
    """
    import onnx_ir

    with quietly():
        try:
            from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter
        except ImportError:
            program: Any = torch.onnx.export(module, (), kwargs=inputs, dynamic_shapes=axes, dynamo=True)
            graph = program.model
        else:
            config = OnnxConfig(dynamic_shapes=axes)
            exporter: Any = OnnxExporter()  # declared for whole models; takes parts of them too
            graph = exporter.export(module, dict(inputs), config=config).program
    for value, name in zip(graph.graph.outputs, output_names(module, inputs), strict=True):
        value.name = name
    onnx_ir.save(graph, path)


@contextmanager
def quietly() -> Iterator[None]:
    """Within it the exporters do not tell what they are doing, nor what versions they were tried with."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)


@torch.no_grad()
def output_names(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[str]:
    """The names of what a module returns, in its order, which is the exported graph's."""
    return list(module(**inputs))
