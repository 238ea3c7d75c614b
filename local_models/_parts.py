"""What the memory planner asks about a model, put together from what lies in its folder; no model library here."""

from collections.abc import Mapping
from typing import Any

from local_models._memory import ModelNumbers
from local_models._weights import Part, Weights, damaged

_TEXT = ("text_encoder", "text_encoder_2")
_DECODERS = ("vae", "audio_vae", "vocoder", "connectors")
"""The connectors of LTX-2 are no decoder, but as small, and they lie beside it during the whole run."""


def transformer_of(weights: Weights) -> Part:
    """The transformer, or the one that is left of two. Raises WeightsBroken."""
    found = weights.parts.get("transformer") or weights.parts.get("transformer_2")
    if found is None:
        raise damaged(weights.directory.name, "transformer")
    return found


def numbers_of(weights: Weights, size: tuple[int, int, int], **family: Any) -> ModelNumbers:
    """`size`: width, height and frames of the largest clip that must fit; `family`: what only its code knows."""
    width, height, frames = size
    parts = weights.parts
    transformer = transformer_of(weights)
    packed = transformer.form == "gguf"
    return ModelNumbers(
        transformer_b=transformer.parameters / 1e9,
        packed_bytes=transformer.stored_bytes / transformer.parameters if packed else None,
        lora_b=max(weights.lora_parameters.values(), default=0) / 1e9 if packed else 0.0,
        experts=sum(name in parts for name in ("transformer", "transformer_2")),
        text_b=_billions(parts, _TEXT),
        vae_b=_billions(parts, _DECODERS),
        image_b=_billions(parts, ("image_encoder",)),
        frame_pixels=width * height,
        frames=frames,
        **family,
    )


def width_of(config: Mapping[str, Any]) -> int:
    """Width of a transformer: heads times what each one holds."""
    return int(config["num_attention_heads"]) * int(config["attention_head_dim"])


def _billions(parts: Mapping[str, Part], names: tuple[str, ...]) -> float:
    return sum(parts[name].parameters for name in names if name in parts) / 1e9
