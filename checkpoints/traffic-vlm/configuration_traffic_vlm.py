"""Configuration of TrafficVLM: a vision config, a text config, and how the two are fused.

Every combination that cannot be built is refused here, at construction, with the field to change in the
message.
"""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

FUSIONS = ("cross_attention", "prefix", "both", "none")
STEMS = ("patch", "conv")


def _refuse_unless(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_rate(owner: str, name: str, value: float) -> None:
    _refuse_unless(
        0.0 <= value < 1.0, f"{owner}.{name} is {value}: set it to a value from 0 up to, not including, 1."
    )


def _check_positive(owner: str, **sizes: int) -> None:
    for name, value in sizes.items():
        _refuse_unless(value >= 1, f"{owner}.{name} is {value}: set it to 1 or more.")


@strict
class TrafficVLMVisionConfig(PreTrainedConfig):
    """The SigLIP-style vision encoder ([SigLIP](https://arxiv.org/abs/2303.15343)).

    Args:
        hidden_size (`int`, defaults to 192): Width of the encoder.
        intermediate_size (`int`, defaults to 768): Width of the feed-forward layers.
        num_hidden_layers (`int`, defaults to 6): Number of transformer layers.
        num_attention_heads (`int`, defaults to 6): Number of attention heads; divides `hidden_size`.
        num_channels (`int`, defaults to 3): Colour channels of `pixel_values`.
        image_size (`int | list[int]`, defaults to `[160, 288]`): `[height, width]` in pixels; one number
            means a square.
        patch_size (`int`, defaults to 16): Side of the square patch in pixels; divides both sides of the
            image.
        stem (`str`, defaults to `"patch"`): `"patch"`, one strided convolution as in SigLIP, or `"conv"`, a
            chain of stride-2 3x3 convolutions ([Xiao et al., 2021](https://arxiv.org/abs/2106.14881)).
        stem_channels (`list[int]`, *optional*): Output channels of each stride-2 convolution of the `"conv"`
            stem. `2 ** len(stem_channels)` equals `patch_size`. Defaults to halving `hidden_size` backwards,
            layer by layer.
        stem_depths (`list[int]`, *optional*): Residual blocks behind each of those convolutions. Defaults to
            none.
        hidden_act (`str`, defaults to `"gelu_pytorch_tanh"`): Activation of the feed-forward layers.
        layer_norm_eps (`float`, defaults to 1e-06): Epsilon of the layer norms.
        attention_dropout (`float`, defaults to 0.0): Dropout of the attention probabilities.
        hidden_dropout (`float`, defaults to 0.0): Dropout of what each residual branch adds.
        drop_path_rate (`float`, defaults to 0.0): Stochastic depth of the last layer; grows linearly from 0.
        initializer_factor (`float`, defaults to 1.0): Multiplies the standard deviation of every initial
            weight.
    """

    model_type = "traffic_vlm_vision"
    base_config_key = "vision_config"

    hidden_size: int = 192
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    num_channels: int = 3
    image_size: int | list[int] | tuple[int, ...] = (160, 288)
    patch_size: int = 16
    stem: str = "patch"
    stem_channels: list[int] | tuple[int, ...] | None = None
    stem_depths: list[int] | tuple[int, ...] | None = None
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float | int = 0.0
    hidden_dropout: float | int = 0.0
    drop_path_rate: float | int = 0.0
    initializer_factor: float | int = 1.0

    def __post_init__(self, **kwargs: Any) -> None:
        # JSON has no tuples: a list from the start keeps a saved and reloaded config equal to the original.
        self.image_size = (
            [self.image_size, self.image_size] if isinstance(self.image_size, int) else list(self.image_size)
        )
        if self.stem == "conv" and self.stem_channels is None and self.patch_size >= 2:
            depth = self.patch_size.bit_length() - 1
            self.stem_channels = [max(8, self.hidden_size >> (depth - 1 - i)) for i in range(depth)]
        elif self.stem_channels is not None:
            self.stem_channels = list(self.stem_channels)
        if self.stem_channels is not None:
            self.stem_depths = list(self.stem_depths or [0] * len(self.stem_channels))
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        _check_positive(
            "vision_config",
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_attention_heads=self.num_attention_heads,
            num_channels=self.num_channels,
            patch_size=self.patch_size,
        )
        _refuse_unless(
            self.num_hidden_layers >= 0, "vision_config.num_hidden_layers is negative: set it to 0 or more."
        )
        _refuse_unless(
            self.hidden_size % self.num_attention_heads == 0,
            f"vision_config.hidden_size ({self.hidden_size}) is not a multiple of num_attention_heads "
            f"({self.num_attention_heads}): change one of them.",
        )
        _refuse_unless(
            len(self.image_size) == 2
            and all(side >= self.patch_size and side % self.patch_size == 0 for side in self.image_size),
            f"vision_config.image_size {self.image_size} is not [height, width] in multiples of patch_size "
            f"({self.patch_size}): change image_size or patch_size.",
        )
        _refuse_unless(
            self.stem in STEMS,
            f"vision_config.stem is {self.stem!r}: choose one of {', '.join(map(repr, STEMS))}.",
        )
        if self.stem == "conv":
            _refuse_unless(
                len(self.stem_channels or []) >= 1
                and 2 ** len(self.stem_channels) == self.patch_size
                and min(self.stem_channels) >= 1,
                f"vision_config.stem_channels {self.stem_channels} do not fit patch_size {self.patch_size}: "
                "each entry halves the image, so 2 ** len(stem_channels) must equal patch_size.",
            )
            _refuse_unless(
                len(self.stem_depths) == len(self.stem_channels) and min(self.stem_depths) >= 0,
                f"vision_config.stem_depths {self.stem_depths} do not fit stem_channels "
                f"{self.stem_channels}: give each of them its number of residual blocks.",
            )
        for name in ("attention_dropout", "hidden_dropout", "drop_path_rate"):
            _check_rate("vision_config", name, getattr(self, name))

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches at the configured image size."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def num_patches(self) -> int:
        """Number of patches at the configured image size."""
        rows, columns = self.grid_size
        return rows * columns


@strict
class TrafficVLMTextConfig(PreTrainedConfig):
    """The Gemma-style decoder ([Gemma](https://arxiv.org/abs/2403.08295)); names follow `GemmaConfig`.

    Args:
        vocab_size (`int`, defaults to 2048): Number of tokens.
        hidden_size (`int`, defaults to 192): Width of the decoder.
        intermediate_size (`int`, defaults to 512): Width of the gated feed-forward layers.
        num_hidden_layers (`int`, defaults to 4): Number of decoder layers.
        num_attention_heads (`int`, defaults to 6): Query heads of self-attention.
        num_key_value_heads (`int`, *optional*): Key/value heads; divides `num_attention_heads`. Defaults to
            as many.
        head_dim (`int`, *optional*): Width of a head, even (RoPE turns pairs). Defaults to
            `hidden_size // num_attention_heads`.
        hidden_act (`str`, defaults to `"gelu_pytorch_tanh"`): Activation of the gate.
        max_position_embeddings (`int`, defaults to 1024): Longest sequence that the rotary embedding is meant
            for.
        rms_norm_eps (`float`, defaults to 1e-06): Epsilon of the norms.
        rope_parameters (`dict`, *optional*): Rotary settings; `{"rope_type": "default", "rope_theta":
            10000.0}`.
        attention_bias (`bool`, defaults to `False`): Biases in the attention projections.
        attention_dropout (`float`, defaults to 0.0): Dropout of the attention probabilities.
        hidden_dropout (`float`, defaults to 0.0): Dropout of what each residual branch adds.
        initializer_factor (`float`, defaults to 1.0): Multiplies the standard deviation of every initial
            weight.
        use_cache (`bool`, defaults to `True`): Whether generation keeps keys and values.
        pad_token_id (`int`, defaults to 0): Padding.
        bos_token_id (`int`, defaults to 1): First token of a prompt.
        eos_token_id (`int`, defaults to 2): Last token of an answer.
        tie_word_embeddings (`bool`, defaults to `True`): Output weights are the input embeddings.
    """

    model_type = "traffic_vlm_text"
    base_config_key = "text_config"
    keys_to_ignore_at_inference: ClassVar[list] = ["past_key_values", "cache"]

    vocab_size: int = 2048
    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 4
    num_attention_heads: int = 6
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 1024
    rms_norm_eps: float = 1e-6
    rope_parameters: dict | None = None
    attention_bias: bool = False
    attention_dropout: float | int = 0.0
    hidden_dropout: float | int = 0.0
    initializer_factor: float | int = 1.0
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None and self.num_attention_heads >= 1:
            _refuse_unless(
                self.hidden_size % self.num_attention_heads == 0,
                f"text_config.hidden_size ({self.hidden_size}) is not a multiple of num_attention_heads "
                f"({self.num_attention_heads}): change one of them, or set head_dim.",
            )
            self.head_dim = self.hidden_size // self.num_attention_heads
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        _check_positive(
            "text_config",
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim or 0,
            max_position_embeddings=self.max_position_embeddings,
        )
        _refuse_unless(
            self.num_attention_heads % self.num_key_value_heads == 0,
            f"text_config.num_attention_heads ({self.num_attention_heads}) is not a multiple of "
            f"num_key_value_heads ({self.num_key_value_heads}): change one of them.",
        )
        _refuse_unless(
            self.head_dim % 2 == 0,
            f"text_config.head_dim is {self.head_dim}: make it even, RoPE turns pairs of channels.",
        )
        for name in ("attention_dropout", "hidden_dropout"):
            _check_rate("text_config", name, getattr(self, name))


@strict
class TrafficVLMConfig(PreTrainedConfig):
    """A vision encoder, a decoder, and how the decoder sees the image.

    Args:
        vision_config (`TrafficVLMVisionConfig | dict`, *optional*): The encoder.
        text_config (`TrafficVLMTextConfig | dict`, *optional*): The decoder.
        fusion (`str`, defaults to `"cross_attention"`): `"cross_attention"`: decoder layers look at the
            patches through gated cross-attention. `"prefix"`: projected patches stand in front of the text,
            as in PaliGemma. `"both"`: both. `"none"`: the decoder is blind; the model has no vision encoder.
        cross_attention_layers (`list[int]`, *optional*): Decoder layers with cross-attention. Defaults to all
            of them.
        num_cross_attention_heads (`int`, *optional*): Query heads of cross-attention. Defaults to the text
            config's.
        num_cross_key_value_heads (`int`, *optional*): Key/value heads of cross-attention. Defaults to the
            number of its query heads, or the text config's when `num_cross_attention_heads` is not given
            either.
        cross_attention_gate_init (`float`, defaults to 0.0): Initial value of the gates before `tanh`. 0
            leaves a pretrained decoder as it was ([Flamingo](https://arxiv.org/abs/2204.14198)).
        image_token_id (`int`, defaults to 3): The `<image>` placeholder; needed by `"prefix"` and `"both"`.
        num_patch_labels (`int`, defaults to 0): Outputs of the auxiliary patch head; 0 builds no head.
        grounding_heads (`list[list[int]]`, *optional*): `[layer, head]` pairs of cross-attention heads that
            show the evidence. Kept sorted. Defaults to none.
        initializer_factor (`float`, defaults to 1.0): Multiplies the standard deviation of every initial
            weight of the projection and the heads.
        tie_word_embeddings (`bool`, defaults to `True`): Output weights are the input embeddings.

    Example:

    ```python
    >>> from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration
    >>> model = TrafficVLMForConditionalGeneration(TrafficVLMConfig())
    ```
    """

    model_type = "traffic_vlm"
    sub_configs: ClassVar[dict] = {
        "vision_config": TrafficVLMVisionConfig,
        "text_config": TrafficVLMTextConfig,
    }
    keys_to_ignore_at_inference: ClassVar[list] = ["past_key_values", "cache"]

    vision_config: TrafficVLMVisionConfig | dict | None = None
    text_config: TrafficVLMTextConfig | dict | None = None
    fusion: str = "cross_attention"
    cross_attention_layers: list[int] | tuple[int, ...] | None = None
    num_cross_attention_heads: int | None = None
    num_cross_key_value_heads: int | None = None
    cross_attention_gate_init: float | int = 0.0
    image_token_id: int | None = 3
    num_patch_labels: int = 0
    grounding_heads: list | tuple | None = None
    initializer_factor: float | int = 1.0
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        for name, config_class in self.sub_configs.items():
            value = getattr(self, name)
            if value is None or isinstance(value, dict):
                setattr(self, name, config_class(**(value or {})))
        text = self.text_config
        text.tie_word_embeddings = self.tie_word_embeddings

        if self.cross_attention_layers is None:
            self.cross_attention_layers = list(range(text.num_hidden_layers))
        self.cross_attention_layers = sorted(self.cross_attention_layers)
        if self.num_cross_key_value_heads is None:
            self.num_cross_key_value_heads = self.num_cross_attention_heads or text.num_key_value_heads
        if self.num_cross_attention_heads is None:
            self.num_cross_attention_heads = text.num_attention_heads
        self.grounding_heads = sorted([list(pair) for pair in self.grounding_heads or []])
        # Written into config.json, so that AutoModel and friends find the code that lies beside the weights.
        kwargs.setdefault(
            "auto_map",
            {
                "AutoConfig": "configuration_traffic_vlm.TrafficVLMConfig",
                "AutoModel": "modeling_traffic_vlm.TrafficVLMModel",
                "AutoModelForImageTextToText": "modeling_traffic_vlm.TrafficVLMForConditionalGeneration",
            },
        )
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        _refuse_unless(
            self.fusion in FUSIONS,
            f"fusion is {self.fusion!r}: choose one of {', '.join(map(repr, FUSIONS))}.",
        )
        depth = self.text_config.num_hidden_layers
        _refuse_unless(
            all(isinstance(layer, int) and 0 <= layer < depth for layer in self.cross_attention_layers)
            and len(set(self.cross_attention_layers)) == len(self.cross_attention_layers),
            f"cross_attention_layers {self.cross_attention_layers} does not fit a decoder of {depth} layers: "
            f"name each layer once, from 0 to {depth - 1}.",
        )
        _refuse_unless(
            not self.uses_cross_attention or len(self.cross_attention_layers) > 0,
            f"fusion {self.fusion!r} needs at least one layer in cross_attention_layers; for a blind model "
            "set fusion='none'.",
        )
        _check_positive(
            "config",
            num_cross_attention_heads=self.num_cross_attention_heads,
            num_cross_key_value_heads=self.num_cross_key_value_heads,
        )
        _refuse_unless(
            self.num_cross_attention_heads % self.num_cross_key_value_heads == 0,
            f"num_cross_attention_heads ({self.num_cross_attention_heads}) is not a multiple of "
            f"num_cross_key_value_heads ({self.num_cross_key_value_heads}): change one of them.",
        )
        _refuse_unless(
            not self.uses_prefix
            or (self.image_token_id is not None and 0 <= self.image_token_id < self.text_config.vocab_size),
            f"fusion {self.fusion!r} puts <image> tokens into the text, but image_token_id is "
            f"{self.image_token_id} and vocab_size {self.text_config.vocab_size}: set image_token_id to the "
            "id of <image>.",
        )
        _refuse_unless(
            self.num_patch_labels >= 0, "num_patch_labels is negative: set it to 0 (no patch head) or more."
        )
        self._check_grounding_heads()

    def _check_grounding_heads(self) -> None:
        for pair in self.grounding_heads:
            _refuse_unless(
                len(pair) == 2
                and all(isinstance(number, int) for number in pair)
                and pair[0] in self.cross_attention_layers
                and 0 <= pair[1] < self.num_cross_attention_heads,
                f"grounding_heads holds {pair}: each entry is [layer, head] with a layer of "
                f"cross_attention_layers {self.cross_attention_layers} and a head from 0 to "
                f"{self.num_cross_attention_heads - 1}.",
            )
        _refuse_unless(
            not self.grounding_heads or self.uses_cross_attention,
            f"grounding_heads are cross-attention heads, and fusion {self.fusion!r} has none: set it to [].",
        )

    @property
    def evidence_heads(self) -> list[list[int]]:
        """`[layer, head]` pairs that show the evidence: `grounding_heads`, else the first layer's."""
        if self.grounding_heads or not self.uses_cross_attention:
            return self.grounding_heads
        return [[self.cross_attention_layers[0], head] for head in range(self.num_cross_attention_heads)]

    @property
    def uses_cross_attention(self) -> bool:
        """Whether decoder layers attend to the image."""
        return self.fusion in ("cross_attention", "both")

    @property
    def uses_prefix(self) -> bool:
        """Whether projected patches stand in the token sequence."""
        return self.fusion in ("prefix", "both")

    @property
    def uses_vision(self) -> bool:
        """Whether the model has a vision encoder."""
        return self.fusion != "none"


TrafficVLMConfig.register_for_auto_class()

__all__ = ["TrafficVLMConfig", "TrafficVLMTextConfig", "TrafficVLMVisionConfig"]
