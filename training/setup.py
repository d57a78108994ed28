"""What a run starts from: the model's configuration and weights, the packed frames, the tokenizer."""

from __future__ import annotations

import difflib
import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration
from traffic_vlm.processing.bdd100k.families import FAMILIES
from traffic_vlm.processing.tokenization_traffic_vlm import TrafficVLMTokenizer, train_tokenizer
from transformers import PreTrainedTokenizerBase

from .collator import PATCH_LABELS
from .packing import DataError, PackedSplit, check_packed, is_packed, pack_split, packed_facts
from .recipe import Recipe, RecipeError
from .streaming import keep_rows

RARE = 0.03
"""Assumed share of patches that a label touches: the patch head starts from this answer (Lin et al. 2017,
section 4.1)."""
LEAST_TAKEN = 0.5
"""A checkpoint of which less than this share of the tensors fits is another network's."""
POSITIONS = "model.vision_tower.embeddings.position_embedding"


def spell_out(setting: dict[str, float], divide: bool = False) -> dict[str, float]:
    """A setting by group or family name, spelt out by family; a family's own entry wins.

    Args:
        setting: Values by name.
        divide: Whether the families of a group share its value instead of each having it.

    Raises:
        RecipeError: For a name that is neither a family nor a group.
    """
    sizes = Counter(family.group for family in FAMILIES.values())
    unknown = [name for name in setting if name not in sizes and name not in FAMILIES]
    if unknown:
        raise RecipeError(
            f"data: {unknown[0]!r} is neither a family nor a group of families ({', '.join(sorted(sizes))})."
        )
    values = {
        name: setting[family.group] / (sizes[family.group] if divide else 1)
        for name, family in FAMILIES.items()
        if family.group in setting
    }
    return values | {name: value for name, value in setting.items() if name in FAMILIES}


def refuse_unknown_families(setting: dict[str, float]) -> None:
    """Refuses names in `data.frame_balance` that no question has, which would change nothing.

    Raises:
        RecipeError: For a name that is no family; a group is none.
    """
    for name in setting:
        if name not in FAMILIES:
            near = difflib.get_close_matches(name, FAMILIES, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/questions.md lists them."
            raise RecipeError(f"data.frame_balance: {name!r} is no family of questions: {hint}")


def read_model_config(recipe: Recipe) -> TrafficVLMConfig:
    """Reads the model's configuration of a recipe, refusing a file that is not one."""
    path = Path(recipe.model.config)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        config = TrafficVLMConfig(**values)
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"{path}: not a model configuration ({str(error).splitlines()[0]}).") from error
    if recipe.loss.patch_weight:
        config.num_patch_labels = len(PATCH_LABELS)
    return config


def packed_folder(recipe: Recipe) -> Path:
    """Where the frames of a data set are packed for a recipe."""
    data = recipe.data
    height, width = read_model_config(recipe).vision_config.image_size
    name = f"packed-{width}x{height}" + (f"-v{data.variants}" if data.variants else "")
    name += ("-pasted" if data.paste else "") + ("-joined" if data.join else "")
    return Path(data.packed) if data.packed else Path(data.dataset) / name


def pack_recipe(recipe: Recipe) -> Path:
    """Packs the splits of a recipe that are not packed yet.

    Returns:
        The packed folder: the data set itself where it is one already.

    Raises:
        DataError: If the data set cannot be packed, or what is packed already is not what the recipe wants.
    """
    data, splits = recipe.data, ("train", recipe.run.validate_split)
    if data.streaming:
        return keep_streamed(recipe)
    is_packed_itself = all(is_packed(data.dataset, split) for split in splits)
    folder = Path(data.dataset) if is_packed_itself else packed_folder(recipe)
    for split in splits:
        _pack_once(recipe, split, folder)
    return folder


def _pack_once(recipe: Recipe, split: str, folder: Path) -> None:
    data, size = recipe.data, read_model_config(recipe).vision_config.image_size
    wanted = (data.dataset, split, folder, tuple(size))
    copies = (
        {"variants": data.variants, "max_zoom": data.max_zoom, "paste": data.paste, "join": data.join}
        if split == "train"
        else {}
    )
    if is_packed(folder, split):
        check_packed(*wanted, **copies)
    else:
        pack_split(*wanted, **copies, seed=recipe.run.seed, may_fetch=data.streaming)


def keep_streamed(recipe: Recipe) -> Path:
    """Writes the rows of a streamed data set, and packs the frames of the validation split alone.

    Raises:
        DataError: If the data set cannot be read, or the rows there are of another.
    """
    data, split = recipe.data, recipe.run.validate_split
    folder = Path(data.packed) if data.packed else Path(recipe.run.output) / "rows"
    try:
        keep_rows(data.dataset, folder)
    except DataError:
        raise
    except (ValueError, OSError) as error:
        raise DataError(f"{data.dataset}: cannot be streamed ({str(error).splitlines()[0]}).") from error
    _pack_once(recipe, split, folder)
    return folder


def packed_frames(recipe: Recipe) -> int | None:
    """Training frames of a recipe's packed data set, without copies; None where it is not packed yet."""
    folders = [Path(recipe.data.dataset), packed_folder(recipe)]
    found = [folder for folder in folders if is_packed(folder, "train")]
    if not found:
        return None
    facts = packed_facts(found[0], "train")
    return facts["frames"] // (1 + facts.get("variants", 0))


def prepare_tokenizer(recipe: Recipe, split: PackedSplit, output: Path) -> PreTrainedTokenizerBase:
    """The recipe's tokenizer, that of the checkpoint all of whose parts are taken, or one trained on the
    training questions and kept in the run's folder.

    Raises:
        RecipeError: If the recipe names a folder without one.
        DataError: If it cannot be written.
    """
    folder = _tokenizer_folder(recipe, output)
    if (folder / "tokenizer.json").is_file():
        return TrafficVLMTokenizer.from_pretrained(folder)
    if recipe.model.tokenizer:
        raise RecipeError(f"{folder}: no tokenizer.json here. Leave model.tokenizer empty to train one.")
    texts = {text for row in split.rows for q in row["questions"] for text in (q["question"], q["answer"])}
    tokenizer = train_tokenizer(texts)
    part = folder.with_name("tokenizer.part")  # half of one must not be taken for the tokenizer
    try:
        tokenizer.save_pretrained(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except Exception as error:  # the library's own has no class that is narrower
        raise DataError(
            f"{folder}: cannot be written ({error}). Free some disk space, and start the same command again."
        ) from error
    return tokenizer


def _tokenizer_folder(recipe: Recipe, output: Path) -> Path:
    """Where the tokenizer is, or goes once it is trained."""
    model = recipe.model
    own = output / "tokenizer"
    if model.tokenizer:
        return Path(model.tokenizer)
    if (own / "tokenizer.json").is_file():  # the run goes on with the words that it began with
        return own
    if model.init_from and not model.init_parts and (Path(model.init_from) / "tokenizer.json").is_file():
        return Path(model.init_from)  # another's ids would give its embeddings to other words
    return own


def fit_to_tokenizer(config: TrafficVLMConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives a configuration its tokenizer's ids: `generate` stops at the id that training ends answers with.

    A configuration that was made for other words, such as Gemma's, has others.
    """
    text = config.text_config
    text.vocab_size = math.ceil(len(tokenizer) / 64) * 64
    text.pad_token_id, text.bos_token_id = tokenizer.pad_token_id, tokenizer.bos_token_id
    text.eos_token_id = tokenizer.eos_token_id
    config.image_token_id = tokenizer.image_token_id


def build_model(config: TrafficVLMConfig, recipe: Recipe) -> TrafficVLMForConditionalGeneration:
    """The network with its starting weights."""
    model = TrafficVLMForConditionalGeneration(config)
    if model.patch_head is not None:
        torch.nn.init.constant_(model.patch_head.classifier.bias, math.log(RARE / (1 - RARE)))
    if recipe.model.init_from:
        take_weights(model, recipe.model.init_from, recipe.model.init_parts)
    model.set_attn_implementation(recipe.optim.attention)
    if recipe.model.freeze_vision:
        model.freeze_vision()
    return model


def take_weights(model: TrafficVLMForConditionalGeneration, folder: str, parts: Sequence[str] = ()) -> None:
    """Gives a network a checkpoint's weights; what has another shape or is not there stays as it is and is
    named, but for positions, which are interpolated to the size of the images.

    Args:
        model: The network, in float32.
        folder: The checkpoint.
        parts: Names of modules, such as `vision_tower`, whose weights are taken; empty takes all.

    Raises:
        RecipeError: If the folder is no checkpoint, has no weight that is named so, or most of its weights
            do not fit.
    """
    try:
        before = TrafficVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise RecipeError(
            f"model.init_from: {folder} is not a checkpoint ({str(error).splitlines()[0]})."
        ) from error
    weights, wanted = before.state_dict(), model.state_dict()
    if model.config.uses_vision and before.config.uses_vision:
        grid = model.model.vision_tower.embeddings.grid_size
        with torch.no_grad():
            weights[POSITIONS] = before.model.vision_tower.embeddings.positions(*grid)
    if parts:
        weights = parts_of(weights, parts)
    fitting = {
        name: weight
        for name, weight in weights.items()
        if name in wanted and weight.shape == wanted[name].shape
    }
    _report_taken(folder, sorted(weights.keys() - fitting.keys()), len(weights))
    model.load_state_dict(fitting, strict=False)


def _report_taken(folder: str, left: list[str], of: int) -> None:
    """Says which tensors of a checkpoint a network has no place for; refuses if it is hardly its network.

    Raises:
        RecipeError: If fewer than `LEAST_TAKEN` of them were taken.
    """
    if not left:
        return
    names = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
    found = f"model.init_from: {len(left)} of {of} tensors of {folder} do not fit model.config ({names})"
    if of - len(left) < LEAST_TAKEN * of:
        raise RecipeError(
            f"{found}. Use the config.json of that folder in model.config, or name the parts that fit in "
            "model.init_parts."
        )
    PartialState().print(f"{found}: they are not taken.")


def parts_of(weights: dict[str, torch.Tensor], parts: Sequence[str]) -> dict[str, torch.Tensor]:
    """The weights whose names hold one of `parts`.

    Raises:
        RecipeError: If no weight is named so.
    """
    chosen: dict[str, torch.Tensor] = {}
    for part in parts:
        named = {name: weight for name, weight in weights.items() if part in name.split(".")}
        if not named:
            known = sorted({name.split(".")[1] for name in weights if name.startswith("model.")})
            raise RecipeError(f"model.init_parts: no part is called {part!r} ({', '.join(known)}).")
        chosen |= named
    return chosen
