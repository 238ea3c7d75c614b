"""The same pipelines with a few thousand parameters: for the dry run on a CPU, which measures nothing, and for the tests of
the families (tests/local_models/random_families.py)."""

from benchmarks.gpu.configs import (
    COGVIDEOX_SCHEDULER,
    FLOW_SCHEDULER,
    HUNYUAN_SETTINGS,
    LTX2_SCHEDULER,
    MOCHI_SCHEDULER,
    WAN_SCHEDULER,
    WAN_TOKENIZER,
    Model,
    Part,
    diffusers,
    ltx2,
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
    COGVIDEOX_SCHEDULER,
    {"tokenizer": "bytes"},
)
_MOCHI = Model(
    "local/mochi-1",
    "MochiPipeline",
    {
        "transformer": diffusers(
            "MochiTransformer3DModel",
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            pooled_projection_dim=16,
            in_channels=12,
            text_embed_dim=TEXT_DIM,
            time_embed_dim=8,
            max_sequence_length=TEXT_TOKENS,
        ),
        "text_encoder": _t5("T5EncoderModel"),
        "vae": diffusers(
            "AutoencoderKLMochi",
            # Its norms work on groups of 32.
            encoder_block_out_channels=[32, 32, 32, 32],
            decoder_block_out_channels=[32, 32, 32, 32],
            latent_channels=12,
            layers_per_block=[1] * 5,
            add_attention_block=[False] * 5,
        ),
    },
    MOCHI_SCHEDULER,
    {"tokenizer": "bytes"},
    {"force_zeros_for_empty_prompt": True},
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
    HUNYUAN_SETTINGS,
    {"tokenizer": "chat", "tokenizer_2": "byt5"},
)

_LTX2 = Model(
    "local/ltx-2-distilled",
    "LTX2Pipeline",
    {
        "transformer": diffusers(
            "LTX2VideoTransformer3DModel",
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            audio_in_channels=8,
            audio_out_channels=8,
            audio_num_attention_heads=2,
            audio_attention_head_dim=8,
            audio_cross_attention_dim=16,
            num_layers=2,
            caption_channels=TEXT_DIM,
            rope_double_precision=False,
        ),
        "text_encoder": transformers(
            "Gemma3ForConditionalGeneration",
            text_config={
                "vocab_size": 300,
                "hidden_size": TEXT_DIM,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 8,
            },
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 32,
                "patch_size": 16,
            },
            mm_tokens_per_image=4,
        ),
        "connectors": ltx2(
            "LTX2TextConnectors",
            caption_channels=TEXT_DIM,
            # The encoder's layers and its embedding.
            text_proj_in_factor=3,
            video_connector_num_attention_heads=2,
            video_connector_attention_head_dim=8,
            video_connector_num_layers=1,
            video_connector_num_learnable_registers=None,
            audio_connector_num_attention_heads=2,
            audio_connector_attention_head_dim=8,
            audio_connector_num_layers=1,
            audio_connector_num_learnable_registers=None,
            connector_rope_base_seq_len=32,
            rope_double_precision=False,
        ),
        "vae": diffusers(
            "AutoencoderKLLTX2Video",
            latent_channels=8,
            block_out_channels=[8, 16, 32, 64],
            decoder_block_out_channels=[8, 16, 32],
            layers_per_block=[1] * 5,
            decoder_layers_per_block=[1] * 4,
            spatial_compression_ratio=32,
            temporal_compression_ratio=8,
        ),
        "audio_vae": diffusers(
            "AutoencoderKLLTX2Audio",
            # Latent channels times latent mel bins, as the pipeline packs them.
            base_channels=8,
            ch_mult=[1, 2, 4],
            num_res_blocks=1,
            latent_channels=2,
            resolution=32,
            mel_bins=16,
        ),
        "vocoder": ltx2(
            "LTX2Vocoder",
            in_channels=32,
            hidden_channels=8,
            upsample_kernel_sizes=[20, 32],
            upsample_factors=[10, 16],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3]],
            output_sampling_rate=16000,
        ),
    },
    LTX2_SCHEDULER,
    {"tokenizer": "bytes"},
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
    _MOCHI,
    _HUNYUAN,
    _LTX2,
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
