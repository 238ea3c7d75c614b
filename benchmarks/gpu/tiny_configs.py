"""The same pipelines with a few thousand parameters: for the dry run on a CPU, which measures nothing, and for the tests of
the families (tests/local_models/random_families.py)."""

from benchmarks.gpu.configs import (
    FLOW_SCHEDULER,
    MODELS,
    WAN_SCHEDULER,
    WAN_TOKENIZER,
    Model,
    Part,
    diffusers,
    transformers,
)

WIDTH = HEIGHT = 64
FRAMES = 17
STEPS = 2
TEXT_TOKENS = 24
TEXT_DIM = 16


def _t5(kind: str, vocabulary: int = 300) -> Part:
    return transformers(
        kind,
        vocab_size=vocabulary,
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )


def _wan(channels: int) -> Part:
    return diffusers(
        "WanTransformer3DModel",
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=channels,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=64,
    )


_WAN_VAE = diffusers(
    "AutoencoderKLWan",
    base_dim=3,
    z_dim=4,
    dim_mult=[1, 1, 1, 1],
    num_res_blocks=1,
    latents_mean=[0.0] * 4,
    latents_std=[1.0] * 4,
)
_WAN = {"text_encoder": _t5("UMT5EncoderModel"), "vae": _WAN_VAE}
_LTX = Model(
    "local/ltx-video-2b",
    "LTXConditionPipeline",
    {
        "transformer": diffusers(
            "LTXVideoTransformer3DModel",
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=TEXT_DIM,
        ),
        "text_encoder": _t5("T5EncoderModel"),
        "vae": diffusers(
            "AutoencoderKLLTXVideo",
            latent_channels=8,
            block_out_channels=[4, 4, 4, 4],
            decoder_block_out_channels=[4, 4, 4, 4],
            layers_per_block=[1] * 5,
            decoder_layers_per_block=[1] * 5,
            timestep_conditioning=True,
            decoder_inject_noise=[False] * 5,
        ),
    },
    FLOW_SCHEDULER,
    {"tokenizer": "bytes"},
)
_COGVIDEOX = Model(
    "local/cogvideox-2b",
    "CogVideoXPipeline",
    {
        "transformer": diffusers(
            "CogVideoXTransformer3DModel",
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=TEXT_DIM,
            num_layers=2,
            sample_width=8,
            sample_height=8,
            sample_frames=FRAMES,
            max_text_seq_length=TEXT_TOKENS,
        ),
        "text_encoder": _t5("T5EncoderModel"),
        "vae": diffusers(
            "AutoencoderKLCogVideoX",
            block_out_channels=[8, 8, 8, 8],
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            # Tiles of half of it, 48x40: their overlaps, a sixth and a fifth, are whole latents, as at the real 480x720.
            sample_height=96,
            sample_width=80,
            temporal_compression_ratio=4,
        ),
    },
    MODELS[3].settings,
    {"tokenizer": "bytes"},
)
_HUNYUAN = Model(
    "local/hunyuan-video-1.5-t2v-480p",
    "HunyuanVideo15Pipeline",
    {
        "transformer": diffusers(
            "HunyuanVideo15Transformer3DModel",
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=TEXT_DIM,
            text_embed_2_dim=16,
            image_embed_dim=16,
            rope_axes_dim=[4, 6, 6],
            target_size=64,
            task_type="t2v",
        ),
        "text_encoder": transformers(
            "Qwen2_5_VLTextModel",
            vocab_size=300,
            hidden_size=TEXT_DIM,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            bos_token_id=0,
            eos_token_id=1,
            rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        ),
        "text_encoder_2": _t5("T5EncoderModel", 384),
        "vae": diffusers(
            "AutoencoderKLHunyuanVideo15",
            latent_channels=4,
            block_out_channels=[8, 8, 8, 8, 8],
            layers_per_block=1,
        ),
    },
    MODELS[4].settings,
    {"tokenizer": "chat", "tokenizer_2": "byt5"},
)

TINY: tuple[Model, ...] = (
    Model(
        "local/wan2.2-ti2v-5b",
        "WanPipeline",
        {"transformer": _wan(4), **_WAN},
        WAN_SCHEDULER,
        WAN_TOKENIZER,
        {"expand_timesteps": True},
    ),
    Model(
        "local/wan2.1-t2v-1.3b",
        "WanPipeline",
        {"transformer": _wan(4), **_WAN},
        WAN_SCHEDULER,
        WAN_TOKENIZER,
    ),
    _LTX,
    _COGVIDEOX,
    _HUNYUAN,
    Model(
        "local/wan2.2-t2v-a14b",
        "WanPipeline",
        {"transformer": _wan(4), "transformer_2": _wan(4), **_WAN},
        WAN_SCHEDULER,
        WAN_TOKENIZER,
        {"boundary_ratio": 0.875},
    ),
)
"""In the order of `configs.MODELS`."""
