"""Which question asks about which image, and the images' keys and values between the steps of generation.

Rows are questions. With `image_index` None, rows are grouped evenly by image: row r asks about image
`r // (rows // num_images)`, and folding is a reshape:

    rows       q0 q1 q2 | q3 q4 q5            (rows, length, width)
    folded     image 0: q0 q1 q2              (num_images, questions * length, width)
               image 1: q3 q4 q5

Otherwise each image gets as many slots as the most asked image has questions, and spare slots compute a row
again whose result nobody reads. Keys and values are not copied in either case.
"""

from dataclasses import dataclass, field

import torch
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask


@dataclass
class ImageMemory:
    """What cross-attention knows about the images of a batch.

    Attributes:
        num_images: How many images there are.
        slots: `(num_images, most_questions)`, the row in each slot; None when rows are grouped evenly.
        row_slot: `(rows,)`, the flat slot of each row; None when rows are grouped evenly.
        patch_mask: `(num_images, num_patches)` bool, False where a patch is padding; None when all are real.
        keys_values: For each decoder layer its keys and values, `(num_images, key_value_heads, num_patches,
            head_dim)`.
        is_kept: Whether keys and values are kept for later forward passes.
    """

    num_images: int
    slots: torch.Tensor | None = None
    row_slot: torch.Tensor | None = None
    patch_mask: torch.Tensor | None = None
    keys_values: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    is_kept: bool = False

    def assign_rows(self, image_index: torch.Tensor | None, rows: int) -> None:
        """Notes which image each row asks about.

        Args:
            image_index: `(rows,)` long, or None when rows are grouped evenly by image.
            rows: How many question rows there are.

        Raises:
            ValueError: If an index names no image, or rows cannot be grouped evenly.
        """
        self.slots = self.row_slot = None
        if image_index is None:
            if rows % self.num_images:
                raise ValueError(
                    f"{rows} text rows cannot be shared evenly among {self.num_images} images: pass "
                    "image_index, the image of each row."
                )
            return
        check_image_index(image_index, rows, self.num_images)
        if rows % self.num_images == 0:
            even = torch.arange(rows, device=image_index.device) // (rows // self.num_images)
            if torch.equal(image_index, even):
                return
        counts = torch.bincount(image_index, minlength=self.num_images)
        most_questions = int(counts.max())
        order = torch.argsort(image_index, stable=True)
        first_of_image = counts.cumsum(0) - counts
        rank = torch.empty_like(order)
        rank[order] = torch.arange(rows, device=order.device) - first_of_image[image_index[order]]
        self.row_slot = image_index * most_questions + rank
        slots = torch.zeros(self.num_images * most_questions, dtype=torch.long, device=order.device)
        slots[self.row_slot] = torch.arange(rows, device=order.device)
        self.slots = slots.view(self.num_images, most_questions)

    def fold(self, rows: torch.Tensor) -> torch.Tensor:
        """`(rows, length, width)` -> `(num_images, questions * length, width)`."""
        if self.slots is None:
            return rows.reshape(self.num_images, -1, rows.shape[-1])
        return rows[self.slots].flatten(1, 2)

    def unfold(self, folded: torch.Tensor, rows: int, length: int) -> torch.Tensor:
        """`(num_images, questions * length, width)` -> `(rows, length, width)`."""
        by_slot = folded.reshape(-1, length, folded.shape[-1])
        return by_slot.view(rows, length, -1) if self.row_slot is None else by_slot[self.row_slot]

    def attention_mask(
        self, config: PreTrainedConfig, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor | None:
        """The patch mask as the attention backend wants it, or None when every patch is real."""
        if self.patch_mask is None:
            return None
        return create_bidirectional_mask(
            config=config,
            inputs_embeds=query.transpose(1, 2).flatten(2),
            attention_mask=self.patch_mask,
            encoder_hidden_states=key.transpose(1, 2).flatten(2),
        )


def undo_joining(image_index: torch.Tensor | None, rows: int, num_images: int) -> torch.Tensor | None:
    """Takes inputs of one picture and one question each, joined by concatenation, for what they are.

    The pipelines of transformers batch like that. Every row then says "image 0", which meant its own.

    Args:
        image_index: `(rows,)` long or None.
        rows: How many question rows there are.
        num_images: How many images there are.

    Returns:
        None (each row has its own image) when there are several images, as many rows, and no row names any
        but the first; else `image_index`.

    Raises:
        ValueError: If `image_index` is no tensor of whole numbers.
    """
    if image_index is None:
        return None
    check_whole_numbers(image_index)
    if num_images < 2 or rows != num_images or bool(image_index.any()):
        return image_index
    return None


def check_whole_numbers(image_index: torch.Tensor) -> None:
    """Raises ValueError if `image_index` is a list, or a tensor of another kind."""
    given = image_index.dtype if isinstance(image_index, torch.Tensor) else type(image_index).__name__
    if given not in (torch.int64, torch.int32):
        raise ValueError(f"image_index is a {given}: give a long tensor, such as torch.tensor([0, 0]).")


def check_image_index(image_index: torch.Tensor, rows: int, num_images: int) -> None:
    """Raises ValueError if `image_index` is not `(rows,)` with entries from 0 to `num_images - 1`."""
    check_whole_numbers(image_index)
    if image_index.shape != (rows,):
        raise ValueError(
            f"image_index has shape {tuple(image_index.shape)} for {rows} text rows: give each row one image."
        )
    lowest, highest = int(image_index.min()), int(image_index.max())
    if lowest < 0 or highest >= num_images:
        raise ValueError(
            f"image_index runs from {lowest} to {highest}, but images go from 0 to {num_images - 1}."
        )


def memory_of(cache: Cache | None) -> ImageMemory | None:
    """The image memory that an earlier forward pass left with the cache, if any.

    Emptying a cache (`reset`) does not touch the memory, so it is dropped here, lest the next text be about
    the picture before. Not in a compiled graph, which cannot read how much a static cache holds.
    """
    if cache is not None and not torch.compiler.is_compiling() and cache.get_seq_length() == 0:
        cache.image_memory = None
    return getattr(cache, "image_memory", None)


def keep_with(cache: Cache, memory: ImageMemory) -> None:
    """Leaves the image memory with the cache of a generation.

    It rides on the cache as an attribute, beside the layers of self-attention: reordering, repeating or
    cropping the cache changes rows and tokens, and must not touch what belongs to images.
    """
    memory.is_kept = True
    cache.image_memory = memory
