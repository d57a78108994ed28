"""TrafficVLM: a SigLIP-style encoder and a Gemma-style decoder that looks at the image through
cross-attention.

What is in the other files: `stem` pixels to patches, `vision` encoder layers, `rotary` RoPE, `decoder`
decoder layers, `image_memory` many questions on one image, `fusion` projection and prefix, `grounding` patch
head and losses, `attention` the backends, `pretrained` initial weights, `conversion` SigLIP, Gemma and
PaliGemma weights.
"""

from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_causal_mask,
    create_masks_for_generate,
)
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
)
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

# Two siblings are imported for others' sake: the oldest supported transformers copies, from a
# local folder, only the files that this one imports itself.
from .attention import attend  # noqa: F401
from .configuration_traffic_vlm import TrafficVLMConfig, TrafficVLMTextConfig, TrafficVLMVisionConfig
from .conversion import (
    text_config_from_gemma,
    text_state_from_gemma,
    vision_config_from_siglip,
    vision_state_from_siglip,
)
from .decoder import CrossAttention, DecoderLayer, RMSNorm, ScaledEmbedding, SelfAttention
from .fusion import Projector, fill_placeholders, pad_to_cache, prefix_overlay
from .grounding import PatchHead
from .image_memory import ImageMemory, keep_with, memory_of, undo_joining
from .pretrained import CACHE_NAME, TrafficVLMPreTrainedModel
from .rotary import RotaryEmbedding
from .stem import STEM_CLASSES  # noqa: F401
from .vision import VisionAttention, VisionEmbeddings, VisionEncoderLayer


@dataclass
class TrafficVLMModelOutput(BaseModelOutputWithPast):
    """What the decoder and the model without head return.

    Attributes:
        last_hidden_state: `(rows, length, hidden_size)`.
        cache: The cache, if used; it also holds the images' keys and values. `past_key_values` before
            transformers 5.24.
        hidden_states: Decoder states, `num_hidden_layers + 1` of `(rows, length, hidden_size)`.
        attentions: Self-attention maps, one a layer, `(rows, heads, length, key_length)`.
        cross_attentions: Cross-attention maps, one a layer that has it, `(rows, heads, length, num_patches)`.
        vision_attentions: The encoder's maps, one a layer, `(num_images, heads, num_patches, num_patches)`.
        image_hidden_states: Projected patches `(num_images, num_patches, hidden_size)`.
        patch_states: The encoder's patches before projection `(num_images, num_patches, vision hidden_size)`.
        grounding_maps: `(rows, num_grounding_heads, num_patches)`, float32, when `grounding_positions` were
            given.
    """

    cross_attentions: tuple[torch.Tensor, ...] | None = None
    vision_attentions: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None
    patch_states: torch.Tensor | None = None
    grounding_maps: torch.Tensor | None = None


@dataclass
class TrafficVLMOutput(CausalLMOutputWithPast):
    """What the whole model returns.

    Attributes:
        loss: Mean cross-entropy over answer tokens, when `labels` were given.
        logits: `(rows, length or logits_to_keep, vocab_size)`; `(kept, vocab_size)` where a mask said which
            to keep; None with `labels` and `skip_logits`.
        cache: The cache, if used; it also holds the images' keys and values. `past_key_values` before
            transformers 5.24.
        hidden_states: Decoder states, `num_hidden_layers + 1` of `(rows, length, hidden_size)`.
        attentions: Self-attention maps, one a layer, `(rows, heads, length, key_length)`.
        cross_attentions: Cross-attention maps, one a layer that has it, `(rows, heads, length, num_patches)`.
        vision_attentions: The encoder's maps, one a layer, `(num_images, heads, num_patches, num_patches)`.
        image_hidden_states: Projected patches `(num_images, num_patches, hidden_size)`.
        patch_logits: `(num_images, num_patches, num_patch_labels)`, when the model has a patch head and
            pixels came in.
        grounding_maps: `(rows, num_grounding_heads, num_patches)`, float32, when `grounding_positions` were
            given.
    """

    cross_attentions: tuple[torch.Tensor, ...] | None = None
    vision_attentions: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None
    patch_logits: torch.Tensor | None = None
    grounding_maps: torch.Tensor | None = None


class TrafficVLMVisionModel(TrafficVLMPreTrainedModel):
    """Pixels in, one vector a patch out: stem, positions, pre-norm transformer, final norm.

    SigLIP's vision encoder without its pooling head. Departs from it in rectangular images, and optionally in
    the stem (`config.stem = "conv"`).
    """

    config: TrafficVLMVisionConfig
    config_class = TrafficVLMVisionConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _can_record_outputs = {"hidden_states": VisionEncoderLayer, "attentions": VisionAttention}  # noqa: RUF012

    def __init__(self, config: TrafficVLMVisionConfig):
        super().__init__(config)
        self.embeddings = VisionEmbeddings(config)
        self.layers = nn.ModuleList([VisionEncoderLayer(config, i) for i in range(config.num_hidden_layers)])
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The stem."""
        return self.embeddings.stem

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encodes images.

        Args:
            pixel_values: `(num_images, channels, height, width)`; both sides multiples of the patch size.
                Positions are interpolated when the size is not the configured one.
            pixel_attention_mask: `(num_images, num_patches)`, 0 where a patch is padding.
            **kwargs: `output_attentions`, `output_hidden_states`, `return_dict`.

        Returns:
            `last_hidden_state` `(num_images, num_patches, hidden_size)`, and hidden states and maps if asked
            for.

        Raises:
            ValueError: If the axes or channels are others, or the sides are not multiples of the patch size.
        """
        hidden_states = self.embeddings(pixel_values)
        mask = None
        if pixel_attention_mask is not None:
            mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=hidden_states, attention_mask=pixel_attention_mask
            )
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=self.post_layernorm(hidden_states))


class TrafficVLMTextModel(TrafficVLMPreTrainedModel):
    """The decoder without output layer. Built from a text config alone it is Gemma; with `fusion`, it also
    sees.

    Departs from Gemma in the gated cross-attention between self-attention and feed-forward.
    """

    config: TrafficVLMTextConfig
    config_class = TrafficVLMTextConfig
    input_modalities = ("text",)
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": DecoderLayer,
        "attentions": SelfAttention,
        "cross_attentions": CrossAttention,
    }

    def __init__(self, config: TrafficVLMTextConfig, fusion: TrafficVLMConfig | None = None):
        super().__init__(config)
        self.embed_tokens = ScaledEmbedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(
            [DecoderLayer(config, i, fusion) for i in range(config.num_hidden_layers)]
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = RotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        in_prefix: torch.Tensor | None = None,
        image_hidden_states: torch.Tensor | None = None,
        image_memory: ImageMemory | None = None,
        grounding_positions: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TrafficVLMModelOutput:
        """Runs the decoder.

        Args:
            input_ids: `(rows, length)`; or give `inputs_embeds`.
            attention_mask: `(rows, keys)`, 0 where a token is padding; or a ready 4D mask.
            position_ids: `(rows, length)`. Defaults to counting on from the cache.
            cache: Cache of earlier tokens.
            inputs_embeds: `(rows, length, hidden_size)`.
            use_cache: Whether to return a cache. Defaults to the config's setting, and to not while training.
            in_prefix: `(rows, length)` bool, tokens that see each other in both directions.
            image_hidden_states: `(num_images, num_patches, hidden_size)` for cross-attention.
            image_memory: How rows and images belong together; needed with `image_hidden_states`.
            grounding_positions: `(rows,)`, the position in each row whose maps are wanted.
            past_key_values: `cache` under its name before transformers 5.24.
            **kwargs: `output_attentions`, `output_hidden_states`, `return_dict`, options of the backend.

        Returns:
            The decoder's fields of `TrafficVLMModelOutput`.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, or images come in
                without `image_memory`.
        """
        cache = past_key_values if cache is None else cache
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        if image_hidden_states is not None and image_memory is None:
            raise ValueError(
                "image_hidden_states need image_memory, which says what row asks about what image: pass an "
                "ImageMemory too, or call TrafficVLMModel, which makes one."
            )
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        use_cache = self.wants_cache(use_cache)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)

        mask = self.self_attention_mask(inputs_embeds, attention_mask, cache, position_ids, in_prefix)
        if position_ids is None:
            past_length = cache.get_seq_length() if cache is not None else 0
            position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + past_length)[
                None
            ]
        position_embeddings = self.rotary_emb(inputs_embeds, position_ids)

        hidden_states = inputs_embeds
        grounding_maps = []
        for layer in self.layers:
            # Positional, because reentrant checkpointing follows gradients through positional arguments only.
            hidden_states, layer_maps = layer(
                hidden_states,
                image_hidden_states,
                memory=image_memory,
                position_embeddings=position_embeddings,
                attention_mask=mask,
                cache=cache,
                grounding_positions=grounding_positions,
                **kwargs,
            )
            if layer_maps is not None:
                grounding_maps.append(layer_maps)
        return TrafficVLMModelOutput(
            last_hidden_state=self.norm(hidden_states),
            **{CACHE_NAME: cache if use_cache else None},
            grounding_maps=torch.cat(grounding_maps, dim=1) if grounding_maps else None,
        )

    def wants_cache(self, use_cache: bool | None) -> bool:
        """Whether this forward pass keeps keys and values.

        Not by default while training, where nobody reads them, and never with gradient checkpointing, which
        would write them twice.
        """
        if self.training and (use_cache is None or self.layers[0].gradient_checkpointing):
            return False
        return self.config.use_cache if use_cache is None else use_cache

    def self_attention_mask(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cache: Cache | None,
        position_ids: torch.Tensor | None,
        in_prefix: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """The mask of self-attention as the backend wants it; None where `is_causal` says it all (sdpa)."""
        if in_prefix is not None:
            overlay = prefix_overlay(pad_to_cache(in_prefix, cache))
        elif is_right_padded(attention_mask, inputs_embeds.shape[1]):
            # Nothing looks at padding that comes later, so the causal mask alone is right, and the fast
            # kernel runs.
            attention_mask = None
        return create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{CACHE_NAME: cache},
            **({} if in_prefix is None else {"or_mask_function": overlay}),
        )


def is_right_padded(attention_mask: torch.Tensor | None, query_length: int) -> bool:
    """Whether a 2D mask of a whole sequence has all its padding behind the text.

    Reads the mask's values, which a compiled graph cannot: there the answer is no, and the mask is used.
    """
    if attention_mask is None or attention_mask.ndim != 2 or attention_mask.shape[1] != query_length:
        return False
    if torch.compiler.is_compiling():
        return False
    return bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all()) and bool(attention_mask[:, 0].all())


class TrafficVLMModel(TrafficVLMPreTrainedModel):
    """Encoder, projection and decoder, without output layer.

    Question rows and images are two different batches: `image_index` says which image a row asks about.
    """

    # Checkpoints are saved with the patch head, which this model does without.
    _keys_to_ignore_on_load_unexpected = [r"^patch_head\."]  # noqa: RUF012

    def __init__(self, config: TrafficVLMConfig):
        super().__init__(config)
        self.vision_tower = TrafficVLMVisionModel(config.vision_config) if config.uses_vision else None
        self.projector = Projector(config) if config.uses_vision else None
        self.language_model = TrafficVLMTextModel(config.text_config, fusion=config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The decoder's token embedding; transformers 5.4 does not look for it two levels down."""
        return self.language_model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the decoder's token embedding."""
        self.language_model.embed_tokens = value

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        pixel_attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encodes images and projects them to the decoder's width.

        Args:
            pixel_values: `(num_images, channels, height, width)`.
            pixel_attention_mask: `(num_images, num_patches)`, 0 where a patch is padding.
            **kwargs: `output_attentions`, `output_hidden_states`, `return_dict`.

        Returns:
            `last_hidden_state` `(num_images, num_patches, vision hidden_size)` and `pooler_output`, the
            projected patches `(num_images, num_patches, hidden_size)`.

        Raises:
            ValueError: If the model is blind (`fusion="none"`).
        """
        if self.vision_tower is None:
            raise ValueError("this model has fusion='none' and no vision encoder: it has no image features.")
        # config.return_dict=False is for what leaves the outermost model, not for what moves inside.
        outputs = self.vision_tower(pixel_values, pixel_attention_mask, return_dict=True, **kwargs)
        outputs.pooler_output = self.projector(outputs.last_hidden_state)
        return outputs

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        pixel_attention_mask: torch.Tensor | None = None,
        image_hidden_states: torch.Tensor | None = None,
        grounding_positions: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TrafficVLMModelOutput:
        """Runs encoder and decoder.

        Args:
            input_ids: Questions (and answers) `(rows, length)`; or give `inputs_embeds`.
            pixel_values: `(num_images, channels, height, width)`. Ignored by a blind model. Without pixels,
                the images kept with `cache` are used; without those, cross-attention is skipped.
            attention_mask: `(rows, keys)`, 0 where a token is padding; or a ready 4D mask.
            image_index: `(rows,)` long, the image of each row. None: rows are grouped evenly by image, row r
                asks about image `r // (rows // num_images)`; this case is pure reshapes and compiles without
                graph breaks. As many rows as images, all of image 0, count as None: so transformers'
                pipelines join inputs of one image each.
            position_ids: `(rows, length)`. Defaults to counting on from the cache.
            cache: Cache of earlier tokens, and of the images' keys and values.
            inputs_embeds: `(rows, length, hidden_size)`.
            token_type_ids: `(rows, length)`, prefix fusion only, as in PaliGemma: 0 = prefix (sees the whole
                prefix), 1 = suffix (causal). None: only the `<image>` tokens are prefix.
            use_cache: Whether to return a cache. Defaults to the config's setting, and to not while training.
            pixel_attention_mask: `(num_images, num_patches)`, 0 where a patch is padding.
            image_hidden_states: `(num_images, num_patches, hidden_size)`, already encoded images, instead of
                pixels.
            grounding_positions: `(rows,)`, the position in each row whose cross-attention maps are wanted.
            past_key_values: `cache` under its name before transformers 5.24.
            **kwargs: `output_attentions`, `output_hidden_states`, `return_dict`, options of the backend.

        Returns:
            A `TrafficVLMModelOutput`.

        Raises:
            ValueError: On contradictory inputs; the message says which.
        """
        cache = past_key_values if cache is None else cache
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        if grounding_positions is not None and not self.config.uses_cross_attention:
            raise ValueError(
                f"fusion {self.config.fusion!r} has no cross-attention whose maps could be returned."
            )
        vision_outputs = None
        if pixel_values is not None and self.vision_tower is not None and image_hidden_states is None:
            vision_outputs = self.get_image_features(
                pixel_values, pixel_attention_mask, return_dict=True, **kwargs
            )
            image_hidden_states = vision_outputs.pooler_output
        elif self.vision_tower is None:
            image_hidden_states = None

        use_cache = self.language_model.wants_cache(use_cache)
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config.text_config)
        if inputs_embeds is None:
            inputs_embeds = self.language_model.embed_tokens(input_ids)
        if image_hidden_states is not None:
            image_index = undo_joining(image_index, inputs_embeds.shape[0], image_hidden_states.shape[0])
        in_prefix = None
        if self.config.uses_prefix and image_hidden_states is not None:
            is_placeholder = self.placeholders(input_ids, inputs_embeds)
            inputs_embeds = fill_placeholders(inputs_embeds, is_placeholder, image_hidden_states, image_index)
            in_prefix = is_placeholder if token_type_ids is None else token_type_ids == 0
        memory = None
        if self.config.uses_cross_attention:
            memory = self.image_memory(
                image_hidden_states,
                image_index,
                inputs_embeds.shape[0],
                cache,
                pixel_attention_mask,
            )
            if use_cache and memory is not None:
                keep_with(cache, memory)
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            in_prefix=in_prefix,
            image_hidden_states=image_hidden_states if self.config.uses_cross_attention else None,
            image_memory=memory,
            grounding_positions=grounding_positions,
            return_dict=True,
            **kwargs,
        )
        outputs.image_hidden_states = image_hidden_states
        if vision_outputs is not None:
            outputs.patch_states = vision_outputs.last_hidden_state
            outputs.vision_attentions = vision_outputs.attentions
        return outputs

    def placeholders(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor) -> torch.Tensor:
        """Where the `<image>` tokens stand, `(rows, length)` bool."""
        token = self.config.image_token_id
        if input_ids is not None:
            return input_ids == token
        embedding = self.language_model.embed_tokens(torch.full((1,), token, device=inputs_embeds.device))
        return (inputs_embeds == embedding).all(dim=-1)

    def image_memory(
        self,
        image_hidden_states: torch.Tensor | None,
        image_index: torch.Tensor | None,
        rows: int,
        cache: Cache | None,
        pixel_attention_mask: torch.Tensor | None,
    ) -> ImageMemory | None:
        """A new memory when images come in, else the one kept with the cache, else None."""
        if image_hidden_states is not None:
            mask = None if pixel_attention_mask is None else pixel_attention_mask.bool()
            memory = ImageMemory(num_images=image_hidden_states.shape[0], patch_mask=mask)
            memory.assign_rows(image_index, rows)
            return memory
        memory = memory_of(cache)
        if memory is not None and image_index is not None:
            memory.assign_rows(image_index, rows)
        return memory


class TrafficVLMForConditionalGeneration(TrafficVLMPreTrainedModel, GenerationMixin):
    """The whole model: answers questions about images.

    Prompts are `<bos>question\\n`, answers follow and end with `<eos>`; prefix fusion puts one `<image>`
    token a patch in front.

    Example:

    ```python
    >>> model = AutoModelForImageTextToText.from_pretrained(DIR, trust_remote_code=True)
    >>> processor = AutoProcessor.from_pretrained(DIR, trust_remote_code=True)
    >>> inputs = processor(images=[frame], text=["Is the left lane clear?"], return_tensors="pt")
    >>> out = model.generate(**inputs, max_new_tokens=24)
    >>> processor.post_process_image_text_to_text(out, skip_prompt=True)
    ```
    """

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012
    # Inputs with one entry an image, not one a row: never repeated for beams, and read only with the prompt.
    _image_inputs = ("pixel_values", "pixel_attention_mask", "image_hidden_states")

    def __init__(self, config: TrafficVLMConfig):
        super().__init__(config)
        self.model = TrafficVLMModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.patch_head = PatchHead(config) if config.num_patch_labels and config.uses_vision else None
        self.post_init()

    def get_image_features(
        self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """See `TrafficVLMModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        skip_logits: bool = False,
        pixel_attention_mask: torch.Tensor | None = None,
        image_hidden_states: torch.Tensor | None = None,
        grounding_positions: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TrafficVLMOutput:
        """Logits of the next tokens, and a loss if there are labels.

        Args:
            input_ids: Questions (and answers) `(rows, length)`; or give `inputs_embeds`.
            pixel_values: `(num_images, channels, height, width)`; see `TrafficVLMModel.forward`.
            attention_mask: `(rows, keys)`, 0 where a token is padding. With padding on the right it may be
                left out in training: no token looks at what comes later.
            image_index: `(rows,)` long, the image of each row; None = grouped evenly by image.
            position_ids: `(rows, length)`.
            cache: Cache of earlier tokens, and of the images' keys and values.
            inputs_embeds: `(rows, length, hidden_size)`.
            token_type_ids: `(rows, length)`, prefix fusion only: 0 = prefix, 1 = suffix.
            labels: `(rows, length)`, aligned with `input_ids` (the shift is made here), -100 = not scored.
            use_cache: Whether to return a cache.
            logits_to_keep: Compute logits for this many last positions only (0 = all), for these positions
                of every row, or where this `(rows, length)` boolean mask is true. Not together with `labels`.
            skip_logits: With `labels`, compute only what the loss needs: logits at scored positions, which
                are not returned. Saves most of the output layer's time in training. Not for compiled graphs
                (the number of positions varies).
            pixel_attention_mask: `(num_images, num_patches)`, 0 where a patch is padding.
            image_hidden_states: `(num_images, num_patches, hidden_size)`, already encoded images, instead of
                pixels.
            grounding_positions: `(rows,)`, the position in each row whose cross-attention maps are wanted.
            num_items_in_batch: Number of scored tokens over all accumulated batches; the loss is then the sum
                over this.
            past_key_values: `cache` under its name before transformers 5.24.
            **kwargs: `output_attentions`, `output_hidden_states`, `return_dict`, options of the backend.

        Returns:
            A `TrafficVLMOutput`.

        Raises:
            ValueError: On contradictory inputs; the message says which.
        """
        cache = past_key_values if cache is None else cache
        if labels is not None and (isinstance(logits_to_keep, torch.Tensor) or logits_to_keep):
            raise ValueError(
                "labels score every position, and logits_to_keep drops some: pass one of them (skip_logits "
                "saves the logits that the loss does not need)."
            )
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            image_index=image_index,
            position_ids=position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            token_type_ids=token_type_ids,
            use_cache=use_cache,
            pixel_attention_mask=pixel_attention_mask,
            image_hidden_states=image_hidden_states,
            grounding_positions=grounding_positions,
            return_dict=True,
            **kwargs,
        )
        loss = logits = None
        if skip_logits and labels is not None:
            loss = self.loss_at_scored_positions(outputs.last_hidden_state, labels, num_items_in_batch)
        else:
            logits = self.lm_head(keep_positions(outputs.last_hidden_state, logits_to_keep))
            if labels is not None:
                loss = self.loss_function(
                    logits=logits,
                    labels=labels,
                    vocab_size=self.config.text_config.vocab_size,
                    num_items_in_batch=num_items_in_batch,
                    **kwargs,
                )
        patch_logits = None
        if self.patch_head is not None and outputs.patch_states is not None:
            patch_logits = self.patch_head(outputs.patch_states)
        return TrafficVLMOutput(
            loss=loss,
            logits=logits,
            **{CACHE_NAME: outputs.get(CACHE_NAME)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions,
            vision_attentions=outputs.vision_attentions,
            image_hidden_states=outputs.image_hidden_states,
            patch_logits=patch_logits,
            grounding_maps=outputs.grounding_maps,
        )

    def loss_at_scored_positions(
        self, hidden_states: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """The same loss as from all logits, computed only where a label stands.

        Args:
            hidden_states: `(rows, length, hidden_size)`.
            labels: `(rows, length)`.
            num_items_in_batch: Divisor; None = the number of labels.

        Returns:
            A scalar.
        """
        targets = labels[:, 1:]
        scored = targets != -100
        logits = self.lm_head(hidden_states[:, :-1][scored]).float()
        if num_items_in_batch is None:
            return nn.functional.cross_entropy(logits, targets[scored])
        return nn.functional.cross_entropy(logits, targets[scored], reduction="sum") / num_items_in_batch

    @torch.no_grad()
    def score_answers(self, inputs: dict[str, Any], candidates: list) -> torch.Tensor:
        """Log-probabilities of given answers, for all questions in one batched pass; images are encoded once.

        Args:
            inputs: What the processor returns for the questions: `input_ids`, `attention_mask` (padding on
                either side), `pixel_values`, `image_index`.
            candidates: Token ids of the answers: either one list for all rows (`list[list[int]]`), or one
                such list a row (`list[list[list[int]]]`), which may differ in length. End each with `<eos>`
                to compare answers of which one begins another.

        Returns:
            `(rows, most_candidates)` float32, log p(answer | image, question); -inf where a row has fewer
            candidates.

        Raises:
            ValueError: If there is no candidate, one is empty, or the number of lists does not match the
                rows.
        """
        inputs = dict(inputs)
        prompt_ids = inputs.pop("input_ids")
        rows = prompt_ids.shape[0]
        prompt_mask = inputs.pop("attention_mask", None)
        prompt_mask = torch.ones_like(prompt_ids) if prompt_mask is None else prompt_mask
        # A row may have no candidate, so the first entry need not tell lists of answers from answers.
        first = next((entry for entry in candidates if len(entry)), None)
        if first is None:
            raise ValueError("candidates hold no answer to score: give at least one row an answer.")
        per_row = candidates if isinstance(first[0], (list, tuple)) else [candidates] * rows
        if len(per_row) != rows or any(len(answer) == 0 for answers in per_row for answer in answers):
            raise ValueError(
                f"candidates must be {rows} lists of non-empty answers, or one list for all rows."
            )

        row_of = torch.tensor(
            [row for row, answers in enumerate(per_row) for _ in answers], device=prompt_ids.device
        )
        answers = [list(answer) for answers in per_row for answer in answers]
        longest = max(map(len, answers))
        pad = self.config.text_config.pad_token_id or 0
        answer_ids = prompt_ids.new_tensor([answer + [pad] * (longest - len(answer)) for answer in answers])
        answer_mask = prompt_mask.new_tensor(
            [[1] * len(answer) + [0] * (longest - len(answer)) for answer in answers]
        )
        prompts, masks = pad_left(prompt_ids, prompt_mask)

        num_images = (inputs.get("pixel_values", inputs.get("image_hidden_states", prompt_ids))).shape[0]
        image_index = undo_joining(inputs.pop("image_index", None), rows, num_images)
        if image_index is None:
            image_index = torch.arange(rows, device=prompt_ids.device) // max(rows // num_images, 1)
        # Images that no row asks about go, lest rows of the first alone be taken for joined inputs again.
        used = int(image_index.max()) + 1
        inputs |= {name: inputs[name][:used] for name in self._image_inputs if inputs.get(name) is not None}
        token_types = inputs.pop("token_type_ids", None)
        if token_types is not None:
            types, _ = pad_left(token_types, prompt_mask)
            inputs["token_type_ids"] = torch.cat([types[row_of], torch.ones_like(answer_ids)], dim=1)
        outputs = self(
            input_ids=torch.cat([prompts[row_of], answer_ids], dim=1),
            attention_mask=torch.cat([masks[row_of], answer_mask], dim=1),
            image_index=image_index[row_of],
            use_cache=False,
            logits_to_keep=longest + 1,
            **inputs,
        )
        log_probs = outputs.logits[:, :-1].float().log_softmax(dim=-1)
        scores = (log_probs.gather(-1, answer_ids[..., None])[..., 0] * answer_mask).sum(dim=1)
        table = scores.new_full((rows, max(map(len, per_row))), float("-inf"))
        column = torch.tensor([column for row in per_row for column in range(len(row))], device=scores.device)
        table[row_of, column] = scores
        return table

    @torch.no_grad()
    def get_evidence_maps(self, **inputs: Any) -> torch.Tensor:
        """Where the prompt's last token looks: the mean of the config's evidence heads.

        Those are `config.grounding_heads`, else all heads of the first cross-attention layer (later layers
        keep much of their attention in sinks).

        Args:
            **inputs: What the processor returns: `input_ids`, `attention_mask`, `pixel_values`,
                `image_index`.

        Returns:
            `(rows, grid_h, grid_w)` float32; each map sums to 1.

        Raises:
            ValueError: If the model has no cross-attention, or there are no pixels.
        """
        pixel_values = inputs.get("pixel_values")
        if pixel_values is None:
            raise ValueError("get_evidence_maps needs pixel_values.")
        input_ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        last = (positions if mask is None else positions * mask).amax(dim=1)
        outputs = self(**inputs, grounding_positions=last, use_cache=False, logits_to_keep=1)
        patch_size = self.config.vision_config.patch_size
        grid = (pixel_values.shape[-2] // patch_size, pixel_values.shape[-1] // patch_size)
        return outputs.grounding_maps.mean(dim=1).unflatten(-1, grid)

    @classmethod
    def from_siglip_gemma(
        cls,
        vision_checkpoint: str | PathLike,
        text_checkpoint: str | PathLike,
        image_size: list[int] | None = None,
        dtype: torch.dtype | None = None,
        **config_fields: Any,
    ) -> "TrafficVLMForConditionalGeneration":
        """A model whose encoder starts as a SigLIP and whose decoder starts as a Gemma.

        The projection and the cross-attention are new; with the default gates of 0 the decoder still answers
        as Gemma does. No tokenizer is loaded.

        Args:
            vision_checkpoint: A SigLIP checkpoint, such as `google/siglip-base-patch16-224`, or its folder.
            text_checkpoint: A Gemma (first generation) checkpoint, such as `google/gemma-2b`, or its folder.
            image_size: `[height, width]` of the images to come, in pixels; positions are interpolated to it.
                Defaults to SigLIP's own square.
            dtype: Of the weights. Defaults to the text checkpoint's.
            **config_fields: Fields of `TrafficVLMConfig`, such as `fusion="prefix", image_token_id=255999`.

        Returns:
            The model, in evaluation mode.

        Raises:
            OSError: If a checkpoint is not found.
            ValueError: If a checkpoint is of another kind.
        """
        # Imported here: who only loads a TrafficVLM does not pay for two more models.
        from transformers import AutoConfig, GemmaModel, SiglipVisionModel

        # Asked beforehand: transformers loads what fits of another kind, and the rest stays random.
        for checkpoint, name, kinds in (
            (vision_checkpoint, "SigLIP", ("siglip", "siglip_vision_model")),
            (text_checkpoint, "first-generation Gemma", ("gemma",)),
        ):
            kind = AutoConfig.from_pretrained(checkpoint).model_type
            if kind not in kinds:
                raise ValueError(
                    f"{checkpoint} is not a {name}, but of model_type {kind!r}: give a {name} checkpoint."
                )
        siglip = SiglipVisionModel.from_pretrained(vision_checkpoint)
        gemma = GemmaModel.from_pretrained(text_checkpoint, dtype=dtype or "auto")
        sizes = {} if image_size is None else {"image_size": image_size}
        config = TrafficVLMConfig(
            vision_config=vision_config_from_siglip(siglip.config, **sizes),
            text_config=text_config_from_gemma(gemma.config),
            **config_fields,
        )
        model = cls(config).to(gemma.dtype)
        vision_state = vision_state_from_siglip(siglip.state_dict(), config.vision_config)
        if model.model.vision_tower is not None:
            model.model.vision_tower.load_state_dict(vision_state)
        # Not strict: cross-attention is new.
        model.model.language_model.load_state_dict(text_state_from_gemma(gemma.state_dict()), strict=False)
        return model.eval()

    def freeze_vision(self) -> None:
        """Stops training of the vision encoder; the projection and everything behind it go on learning."""
        if self.model.vision_tower is not None:
            self.model.vision_tower.requires_grad_(False)

    # How generate() handles the images.

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        inputs_embeds: torch.Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Inputs of one step: images come in with the prompt, and are kept with the cache after that."""
        # inputs_embeds is named because generate() looks for it here to know that it may be given.
        model_inputs = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        later_step = not is_first_iteration and kwargs.get("use_cache", True)
        if later_step or self.continues_after_prefix(model_inputs):
            for name in (*self._image_inputs, "image_index", "grounding_positions"):
                model_inputs.pop(name, None)
        return model_inputs

    def continues_after_prefix(self, model_inputs: dict[str, Any]) -> bool:
        """Whether a cache already holds the prefix, and the new tokens hold no `<image>` to fill."""
        cache, ids = model_inputs.get(CACHE_NAME), model_inputs.get("input_ids")
        if not self.config.uses_prefix or cache is None or cache.get_seq_length() == 0:
            return False
        return not bool(self.model.placeholders(ids, model_inputs.get("inputs_embeds")).any())

    def _expand_inputs_for_generation(self, **kwargs: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        """Repeats rows for beams and samples, not images: `image_index` (or even grouping) still holds."""
        image_inputs = {name: kwargs.pop(name) for name in self._image_inputs if name in kwargs}
        pixels, index = image_inputs.get("pixel_values"), kwargs.get("image_index")
        if pixels is not None and index is not None:  # before rows are repeated, while they can be counted
            index = kwargs["image_index"] = undo_joining(index, len(index), len(pixels))
        if pixels is not None and index is not None:
            # Without the images after the last that is asked about: repeated rows could be as many as images,
            # and would look like one question each.
            asked = slice(int(index.max()) + 1)
            image_inputs = {name: value[asked] for name, value in image_inputs.items() if value is not None}
        input_ids, model_kwargs = super()._expand_inputs_for_generation(**kwargs)
        return input_ids, {**model_kwargs, **image_inputs}

    def _update_model_kwargs_for_generation(
        self, outputs: ModelOutput, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """A generated token belongs to the suffix; the general rule would repeat the prompt's last type."""
        length = (
            model_kwargs["token_type_ids"].shape[1]
            if model_kwargs.get("token_type_ids") is not None
            else None
        )
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        if length is not None:
            model_kwargs["token_type_ids"] = model_kwargs["token_type_ids"].clone()
            model_kwargs["token_type_ids"][:, length:] = 1
        return model_kwargs

    @staticmethod
    def create_masks_for_generate(
        config: TrafficVLMConfig,
        attention_mask: torch.Tensor | None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor | dict | None:
        """4D masks for compiled steps; the prompt's is left to `forward`, which sees the `<image>` tokens."""
        if is_first_iteration:
            return attention_mask
        kwargs.pop("token_type_ids", None)
        return create_masks_for_generate(
            config=config.get_text_config(), attention_mask=attention_mask, **kwargs
        )


def keep_positions(hidden_states: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
    """The states that logits are computed from.

    Args:
        hidden_states: `(rows, length, hidden_size)`.
        logits_to_keep: As in `TrafficVLMForConditionalGeneration.forward`.

    Returns:
        `(rows, kept, hidden_size)`, or `(kept, hidden_size)` for a mask.
    """
    if not isinstance(logits_to_keep, torch.Tensor):
        return hidden_states[:, -logits_to_keep:] if logits_to_keep else hidden_states
    if logits_to_keep.dtype == torch.bool:
        return hidden_states[logits_to_keep]
    return hidden_states[:, logits_to_keep]


def pad_left(rows: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Moves each row's padding to the left, keeping the order of its tokens.

    Args:
        rows: `(rows, length)`.
        mask: `(rows, length)`, 1 where a token is real.

    Returns:
        The reordered rows and mask.
    """
    order = mask.long().argsort(dim=1, stable=True)
    return rows.gather(1, order), mask.gather(1, order)


TrafficVLMModel.register_for_auto_class("AutoModel")
TrafficVLMForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")

__all__ = [
    "TrafficVLMForConditionalGeneration",
    "TrafficVLMModel",
    "TrafficVLMModelOutput",
    "TrafficVLMOutput",
    "TrafficVLMPreTrainedModel",
    "TrafficVLMTextModel",
    "TrafficVLMVisionModel",
]
