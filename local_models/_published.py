"""Numbers of the catalogue's models without their weights, from the published configurations; and timed clips.

Parameters: exact, by instantiating each configuration with diffusers 0.42.1 and transformers 5.23.0 on the meta device
(2026-11-26 for the transformers; text encoders and VAEs from the same exercise, 2026-11-19). Widest decoder maps: from
each VAE's code, as channels at full resolution; frames at once: what its `decode` holds of a clip.
"""

import re
from dataclasses import dataclass, replace

from local_models._numbers import TILE_PIXELS, ModelNumbers, tokens
from local_models._speed import Anchor
from local_models._weights import LORAS, Weights
from router.contract.card import ModelCard

GGUF_BYTES: dict[str, float] = {"q4_k_m": 0.68}
"""Bytes per parameter of a whole file: 9.65 GB for 14.288 B (QuantStack, Wan2.2-A14B), 11.3 GB for 16.395 B (city96,
Wan2.1-I2V-14B); some tensors stay in 16 bits (sizes as people list them, looked up 2026-11-26)."""
LORA_RANK = 64
"""Of the lightx2v LoRAs that the catalogue pairs with GGUF files; their names say so."""
WHOLE_CLIP = 10_000
"""For a VAE that decodes all frames of a tile at once."""
UMT5_B, T5_B = 5.681, 4.762
GEMMA_B = 12.203
"""With its vision tower, which the repository has and the library loads."""
LTX2_SIDE_B = 1.222 + 0.053 + 1.431 + 0.056
"""What lies beside LTX-2's transformer: VAE, sound VAE, text connectors, vocoder."""
QWEN_BYT5_B = 7.071 + 0.219


@dataclass(frozen=True)
class Timed:
    """A time that somebody published: a clip of this size took so long on that card."""

    card: str
    width: int
    height: int
    frames: int
    steps: int
    passes: int
    seconds: float
    source: str
    whole: bool = True
    """False where only steps were timed."""


@dataclass(frozen=True)
class Published:
    """One architecture. Parameters in billions."""

    pattern: str
    """Searched in the card's id, family and repository, in lower case."""
    transformer_b: float
    text_b: float
    vae_b: float
    dim: int
    ffn: int
    layers: int
    grid: tuple[int, int, int]
    """Frames, pixels and latents per token side: temporal, spatial, patch."""
    decoder_base: int
    experts: int = 1
    image_b: float = 0.0
    per_token_time: bool = False
    batched_guidance: bool = False
    decode_frames: int = 4
    tile_pixels: int = TILE_PIXELS
    timed: Timed | None = None

    def numbers(self, width: int, height: int, frames: int, steps: int, passes: int) -> ModelNumbers:
        """What such a clip costs."""
        temporal, spatial, patch = self.grid
        return ModelNumbers(
            transformer_b=self.transformer_b,
            experts=self.experts,
            text_b=self.text_b,
            vae_b=self.vae_b,
            image_b=self.image_b,
            dim=self.dim,
            ffn=self.ffn,
            tokens=tokens(width, height, frames, temporal=temporal, spatial=spatial, patch=patch),
            per_token_time=self.per_token_time,
            decoder_base=self.decoder_base,
            frame_pixels=width * height,
            frames=frames,
            layers=self.layers,
            steps=steps,
            passes=passes,
            batched_guidance=self.batched_guidance,
            decode_frames=self.decode_frames,
            tile_pixels=self.tile_pixels,
        )

    @property
    def anchor(self) -> Anchor | None:
        """The published time with the arithmetic of its clip."""
        timed = self.timed
        if timed is None:
            return None
        numbers = self.numbers(timed.width, timed.height, timed.frames, timed.steps, timed.passes)
        return Anchor(timed.card, numbers, timed.seconds, timed.source, timed.whole)


_WAN_14B_TIMED = Timed(
    *("RTX 4090 D", 832, 480, 81, 1, 2, 30.5),
    "LightX2V README: Wan2.1-I2V-14B 480p, plain diffusers, per step",
    whole=False,
)
_COG_2B_TIMED = Timed(
    "A100", 720, 480, 49, 50, 2, 90, "THUDM/CogVideoX-5b model card: CogVideoX-2B, 50 steps"
)
_COG_5B_TIMED = Timed("A100", 720, 480, 49, 50, 2, 180, "THUDM/CogVideoX-5b model card: 50 steps")

MODELS: tuple[Published, ...] = (
    Published(
        r"wan[-_]?2\.1[-_]t2v[-_]1\.3b", 1.419, UMT5_B, 0.127, 1536, 8960, 30, (4, 8, 2), 96,
        timed=Timed("RTX 4090", 832, 480, 81, 50, 2, 240, "Wan2.1 README: 480p, 5 s, 50 steps"),
    ),
    Published(
        r"wan[-_]?2\.1[-_](i2v|flf2v)[-_]14b", 16.395, UMT5_B, 0.127, 5120, 13824, 40, (4, 8, 2), 96,
        image_b=0.631, timed=_WAN_14B_TIMED,
    ),
    Published(
        r"wan[-_]?2\.1[-_]t2v[-_]14b", 14.288, UMT5_B, 0.127, 5120, 13824, 40, (4, 8, 2), 96,
        timed=_WAN_14B_TIMED,
    ),
    Published(
        r"wan[-_]?2\.2[-_]ti2v[-_]5b", 5.000, UMT5_B, 0.705, 3072, 14336, 30, (4, 16, 2), 256,
        per_token_time=True,
        timed=Timed(
            "RTX 4090", 1280, 704, 121, 50, 2, 540,
            "Wan2.2 README: under 9 minutes on a consumer card, its command for an RTX 4090",
        ),
    ),
    Published(
        r"wan[-_]?2\.2[-_][ti]2v[-_]a14b", 14.288, UMT5_B, 0.127, 5120, 13824, 40, (4, 8, 2), 96, experts=2,
        timed=_WAN_14B_TIMED,
    ),
    Published(
        r"ltx.*13b", 13.043, T5_B, 1.247, 4096, 16384, 48, (8, 32, 1), 16, per_token_time=True,
        batched_guidance=True, decode_frames=WHOLE_CLIP, tile_pixels=512 * 512,
    ),
    Published(
        r"ltx[-_]?2([-_.\s]|$)(?!b)", 18.876, GEMMA_B, LTX2_SIDE_B, 4096, 16384, 48, (8, 32, 1), 16,
        per_token_time=True, batched_guidance=True, decode_frames=WHOLE_CLIP, tile_pixels=512 * 512,
    ),
    Published(
        r"ltx", 1.923, T5_B, 1.247, 2048, 8192, 28, (8, 32, 1), 16, per_token_time=True,
        batched_guidance=True, decode_frames=WHOLE_CLIP, tile_pixels=512 * 512,
    ),
    Published(
        r"hunyuan[-_]?video[-_]?1\.5", 8.327, QWEN_BYT5_B, 1.261, 2048, 8192, 54, (4, 16, 1), 128,
        image_b=0.428, decode_frames=WHOLE_CLIP,
        timed=Timed("RTX 4090", 848, 480, 121, 12, 1, 75, "HunyuanVideo-1.5 README: 480p, 8 or 12 steps"),
    ),
    Published(
        r"cogvideox-2b", 1.694, T5_B, 0.216, 1920, 7680, 30, (4, 8, 2), 128, batched_guidance=True,
        decode_frames=12, tile_pixels=240 * 360, timed=_COG_2B_TIMED,
    ),
    Published(
        r"cogvideox-5b", 5.570, T5_B, 0.216, 3072, 12288, 42, (4, 8, 2), 128, batched_guidance=True,
        decode_frames=12, tile_pixels=240 * 360, timed=_COG_5B_TIMED,
    ),
    Published(
        r"mochi", 10.028, T5_B, 0.460, 3072, 12288, 48, (6, 8, 2), 128, batched_guidance=True,
        decode_frames=WHOLE_CLIP,
    ),
)  # fmt: skip
"""The first whose pattern is found counts."""


def packed(card: ModelCard, numbers: ModelNumbers) -> ModelNumbers:
    """The numbers with the transformer as the card's GGUF files hold it; unchanged for a card without such files."""
    names = [str(file["file"]).lower() for file in card.wire.get("files", ())]
    kinds = [name.removesuffix(".gguf").rpartition("-")[2] for name in names if name.endswith(".gguf")]
    size = next((GGUF_BYTES[kind] for kind in kinds if kind in GGUF_BYTES), None)
    if size is None:
        return numbers
    lora = any(str(file["to"]).startswith(f"{LORAS}/") for file in card.wire.get("files", ()))
    return replace(numbers, packed_bytes=size, lora_b=_lora_billions(numbers) if lora else 0.0)


def _lora_billions(numbers: ModelNumbers) -> float:
    """Two thin matrices per linear layer: four each of self and cross attention, two more for an image, two of the FFN.

    0.61 GB in bf16 for 14B, 0.72 GB with an image; the files are listed as 0.6 to 0.7 GB (fact sheet, 2026-11-19).
    """
    square = 8 + 2 * (numbers.image_b > 0)
    per_layer = LORA_RANK * (square * 2 * numbers.dim + 2 * (numbers.dim + numbers.ffn))
    return numbers.layers * per_layer / 1e9


def published(card: ModelCard) -> Published | None:
    """The architecture of this card, None where the table does not know it."""
    repository = card.local.repository if card.local and card.local.repository else ""
    text = f"{card.id} {card.family} {repository}".lower()
    return next((row for row in MODELS if re.search(row.pattern, text)), None)


def from_weights(
    weights: Weights, width: int, height: int, frames: int, steps: int, passes: int
) -> ModelNumbers | None:
    """The numbers of weights that lie here, from their own files; None where the configuration says too little.

    For models outside the table: the shipped tiny one, a user's own. Names are those of the Wan family.
    """
    parts = weights.parts
    transformer = parts.get("transformer") or parts.get("transformer_2")
    if transformer is None:
        return None
    config, vae = transformer.config, parts["vae"].config
    try:
        dim = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
        patch = config.get("patch_size", 1)
        side = int(patch[1]) if isinstance(patch, list) else int(patch)
        row = Published(
            pattern="",
            transformer_b=transformer.parameters / 1e9,
            text_b=parts["text_encoder"].parameters / 1e9 if "text_encoder" in parts else 0.0,
            vae_b=parts["vae"].parameters / 1e9,
            image_b=parts["image_encoder"].parameters / 1e9 if "image_encoder" in parts else 0.0,
            dim=dim,
            ffn=int(config.get("ffn_dim") or 4 * dim),
            layers=int(config["num_layers"]),
            grid=(
                int(vae.get("scale_factor_temporal") or 4),
                int(vae.get("scale_factor_spatial") or 8),
                side,
            ),
            decoder_base=int(vae.get("decoder_base_dim") or vae.get("base_dim") or 96),
            experts=sum(name in parts for name in ("transformer", "transformer_2")),
            per_token_time=bool(weights.index.get("expand_timesteps")),
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return row.numbers(width, height, frames, steps, passes)
