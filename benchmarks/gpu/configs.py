"""Configurations of production models, as data: what `config.json` of each component says, and how to measure it.

Values are those of the published repositories (../../local_models/*.toml name them); parameter counts agree with
`local_models/_published.py`, which a test holds (tests/benchmarks).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Tokenizer = Literal["bytes", "chat", "byt5"]
"""`bytes`: every character one to three tokens; `chat`: with HunyuanVideo-1.5's template; prompts are padded to the
model's full length in any case, so that which tokens they are does not matter to speed."""


@dataclass(frozen=True)
class Part:
    """One component with weights."""

    library: Literal["diffusers", "transformers", "ltx2"]
    """`ltx2`: diffusers' folder of that pipeline, as `model_index.json` calls it."""
    kind: str
    """Name of the class."""
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Model:
    """One pipeline, component by component."""

    card: str
    """Its id in our catalogue: sizes, frames, steps, guidance and recipe come from there."""
    pipeline: str
    """Class of diffusers."""
    parts: Mapping[str, Part]
    settings: Mapping[str, Part]
    """Components without weights: scheduler, guider."""
    tokenizers: Mapping[str, Tokenizer]
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Of `model_index.json`."""
    home_gb: int = 12
    """The card size that this model is most interesting on; measured first."""


def diffusers(kind: str, **config: Any) -> Part:
    """A component of diffusers."""
    return Part("diffusers", kind, config)


def transformers(kind: str, **config: Any) -> Part:
    """A component of transformers."""
    return Part("transformers", kind, config)


def ltx2(kind: str, **config: Any) -> Part:
    """A component that diffusers keeps beside the LTX-2 pipeline."""
    return Part("ltx2", kind, config)


UMT5_XXL = transformers(
    "UMT5EncoderModel",
    vocab_size=256384,
    d_model=4096,
    d_kv=64,
    d_ff=10240,
    num_layers=24,
    num_heads=64,
    feed_forward_proj="gated-gelu",
    dropout_rate=0.0,
)
T5_XXL = transformers(
    "T5EncoderModel",
    vocab_size=32128,
    d_model=4096,
    d_kv=64,
    d_ff=10240,
    num_layers=24,
    num_heads=64,
    feed_forward_proj="gated-gelu",
    dropout_rate=0.0,
)
QWEN_7B = transformers(
    "Qwen2_5_VLTextModel",
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    rope_parameters={"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0},
    # Token ids of our own tokenizer.
    bos_token_id=0,
    eos_token_id=1,
)
GEMMA3_12B = transformers(
    "Gemma3ForConditionalGeneration",
    text_config={
        "vocab_size": 262208,
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
    },
    vision_config={
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    },
)
BYT5_GLYPH = transformers(
    "T5EncoderModel",
    vocab_size=1510,
    d_model=1472,
    d_kv=64,
    d_ff=3584,
    num_layers=12,
    num_heads=6,
    feed_forward_proj="gated-gelu",
)
WAN_VAE = diffusers("AutoencoderKLWan")
WAN22_VAE = diffusers(
    "AutoencoderKLWan",
    base_dim=160,
    decoder_base_dim=256,
    z_dim=48,
    is_residual=True,
    in_channels=12,
    out_channels=12,
    patch_size=2,
    scale_factor_spatial=16,
    scale_factor_temporal=4,
    # Those of the weights are other numbers; they cost the same.
    latents_mean=[0.0] * 48,
    latents_std=[1.0] * 48,
)
WAN_SCHEDULER = {
    "scheduler": diffusers(
        "UniPCMultistepScheduler", prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
}
WAN_TOKENIZER: dict[str, Tokenizer] = {"tokenizer": "bytes"}
FLOW_SCHEDULER = {"scheduler": diffusers("FlowMatchEulerDiscreteScheduler")}
COGVIDEOX_SCHEDULER = {
    "scheduler": diffusers(
        "CogVideoXDDIMScheduler",
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0,
        timestep_spacing="trailing",
    )
}
MOCHI_SCHEDULER = {"scheduler": diffusers("FlowMatchEulerDiscreteScheduler", invert_sigmas=True)}
HUNYUAN_SETTINGS = {
    "scheduler": diffusers("FlowMatchEulerDiscreteScheduler", shift=5.0),
    "guider": diffusers("ClassifierFreeGuidance", guidance_scale=6.0),
}
LTX2_SCHEDULER = {
    "scheduler": diffusers(
        "FlowMatchEulerDiscreteScheduler",
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        shift_terminal=0.1,
    )
}
_A14B = diffusers("WanTransformer3DModel", num_attention_heads=40, ffn_dim=13824, num_layers=40)

MODELS: tuple[Model, ...] = (
    Model(
        "local/wan2.2-ti2v-5b",
        "WanPipeline",
        {
            "transformer": diffusers(
                "WanTransformer3DModel",
                num_attention_heads=24,
                ffn_dim=14336,
                num_layers=30,
                in_channels=48,
                out_channels=48,
            ),
            "text_encoder": UMT5_XXL,
            "vae": WAN22_VAE,
        },
        WAN_SCHEDULER,
        WAN_TOKENIZER,
        {"expand_timesteps": True},
        home_gb=12,
    ),
    Model(
        "local/wan2.1-t2v-1.3b",
        "WanPipeline",
        {
            "transformer": diffusers(
                "WanTransformer3DModel", num_attention_heads=12, ffn_dim=8960, num_layers=30
            ),
            "text_encoder": UMT5_XXL,
            "vae": WAN_VAE,
        },
        WAN_SCHEDULER,
        WAN_TOKENIZER,
        home_gb=8,
    ),
    Model(
        "local/ltx-video-2b",
        "LTXConditionPipeline",
        {
            "transformer": diffusers("LTXVideoTransformer3DModel"),
            "text_encoder": T5_XXL,
            # 0.9.5, whose configuration the 0.9.8 file is loaded with.
            "vae": diffusers(
                "AutoencoderKLLTXVideo",
                block_out_channels=[128, 256, 512, 1024, 2048],
                down_block_types=["LTXVideo095DownBlock3D"] * 4,
                decoder_block_out_channels=[256, 512, 1024],
                layers_per_block=[4, 6, 6, 2, 2],
                decoder_layers_per_block=[5, 5, 5, 5],
                spatio_temporal_scaling=[True] * 4,
                decoder_spatio_temporal_scaling=[True] * 3,
                decoder_inject_noise=[False] * 4,
                downsample_type=["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
                upsample_residual=[True] * 3,
                upsample_factor=[2] * 3,
                timestep_conditioning=True,
                spatial_compression_ratio=32,
                temporal_compression_ratio=8,
            ),
        },
        FLOW_SCHEDULER,
        {"tokenizer": "bytes"},
        home_gb=8,
    ),
    Model(
        "local/cogvideox-2b",
        "CogVideoXPipeline",
        {
            "transformer": diffusers("CogVideoXTransformer3DModel"),
            "text_encoder": T5_XXL,
            "vae": diffusers("AutoencoderKLCogVideoX"),
        },
        COGVIDEOX_SCHEDULER,
        {"tokenizer": "bytes"},
        home_gb=12,
    ),
    Model(
        "local/mochi-1",
        "MochiPipeline",
        {
            "transformer": diffusers("MochiTransformer3DModel"),
            "text_encoder": T5_XXL,
            "vae": diffusers("AutoencoderKLMochi"),
        },
        MOCHI_SCHEDULER,
        {"tokenizer": "bytes"},
        {"force_zeros_for_empty_prompt": True},
        home_gb=16,
    ),
    Model(
        "local/hunyuan-video-1.5-t2v-480p",
        "HunyuanVideo15Pipeline",
        {
            "transformer": diffusers("HunyuanVideo15Transformer3DModel", task_type="t2v"),
            "text_encoder": QWEN_7B,
            "text_encoder_2": BYT5_GLYPH,
            "vae": diffusers("AutoencoderKLHunyuanVideo15"),
        },
        HUNYUAN_SETTINGS,
        {"tokenizer": "chat", "tokenizer_2": "byt5"},
        home_gb=16,
    ),
    # 70 GB each on disk and in host memory: only where there is room.
    Model(
        "local/ltx-2-distilled",
        "LTX2Pipeline",
        {
            "transformer": diffusers("LTX2VideoTransformer3DModel"),
            "text_encoder": GEMMA3_12B,
            "connectors": ltx2("LTX2TextConnectors"),
            "vae": diffusers("AutoencoderKLLTX2Video"),
            "audio_vae": diffusers("AutoencoderKLLTX2Audio"),
            "vocoder": ltx2("LTX2Vocoder"),
        },
        LTX2_SCHEDULER,
        {"tokenizer": "bytes"},
        home_gb=16,
    ),
    Model(
        "local/wan2.2-t2v-a14b",
        "WanPipeline",
        {"transformer": _A14B, "transformer_2": _A14B, "text_encoder": UMT5_XXL, "vae": WAN_VAE},
        WAN_SCHEDULER,
        WAN_TOKENIZER,
        {"boundary_ratio": 0.875},
        home_gb=24,
    ),
)
"""The most useful first; neighbours share text encoders, which are written to disk once."""
