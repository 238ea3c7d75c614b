"""Directories of the other families with random weights, in their real format: two blocks, a few hundred kilobytes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

from tests.local_models.random_weights import tokenizer

TEXT_DIM = 16
# These libraries are typed in part only.
d: Any = diffusers
t: Any = transformers
_Guider: Any = ClassifierFreeGuidance
_Connectors: Any = LTX2TextConnectors
_Vocoder: Any = LTX2Vocoder


@dataclass(frozen=True)
class Family:
    """One flavour: where it lies and what it takes."""

    name: str
    module: str
    """Its code file in `local_models`."""
    folder: Path
    text: bool = True
    """Whether it makes a clip from text alone."""
    image: bool = False
    last: bool = False


def build(folder: Path) -> dict[str, Family]:
    """Write all of them."""
    torch.manual_seed(1)
    families = (
        Family("ltx", "ltx", folder / "ltx", image=True, last=True),
        Family("ltx2", "ltx2", folder / "ltx2", image=True, last=True),
        Family("hunyuan15", "hunyuan15", folder / "hunyuan15"),
        Family("hunyuan15-i2v", "hunyuan15", folder / "hunyuan15-i2v", text=False, image=True),
        Family("cogvideox", "cogvideox", folder / "cogvideox"),
        Family("cogvideox-i2v", "cogvideox", folder / "cogvideox-i2v", text=False, image=True),
        Family("mochi", "mochi", folder / "mochi"),
    )
    _ltx().save_pretrained(folder / "ltx")
    _ltx2().save_pretrained(folder / "ltx2")
    _hunyuan(image=False).save_pretrained(folder / "hunyuan15")
    _hunyuan(image=True).save_pretrained(folder / "hunyuan15-i2v")
    _cogvideox(image=False).save_pretrained(folder / "cogvideox")
    _cogvideox(image=True).save_pretrained(folder / "cogvideox-i2v")
    _mochi().save_pretrained(folder / "mochi")
    return {family.name: family for family in families}


def _t5() -> dict[str, Any]:
    config = t.T5Config(
        vocab_size=300,
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return {"text_encoder": t.T5EncoderModel(config), "tokenizer": tokenizer()}


def _ltx() -> Any:
    vae = d.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(4, 4, 4, 4),
        decoder_block_out_channels=(4, 4, 4, 4),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        # As the distilled 0.9.8: a decoder that is told how much noise is left.
        timestep_conditioning=True,
        decoder_inject_noise=(False, False, False, False, False),
    )
    transformer = d.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=TEXT_DIM,
    )
    return d.LTXConditionPipeline(
        **_t5(), vae=vae, transformer=transformer, scheduler=d.FlowMatchEulerDiscreteScheduler()
    )


def _ltx2() -> Any:
    vae = d.AutoencoderKLLTX2Video(
        latent_channels=8,
        block_out_channels=(8, 16, 32, 64),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    audio_vae = d.AutoencoderKLLTX2Audio(
        # Latent channels times latent mel bins, as the pipeline packs them.
        base_channels=8,
        ch_mult=(1, 2, 4),
        num_res_blocks=1,
        latent_channels=2,
        resolution=32,
        mel_bins=16,
    )
    vocoder = _Vocoder(
        in_channels=32,
        hidden_channels=8,
        upsample_kernel_sizes=[20, 32],
        upsample_factors=[10, 16],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3]],
        output_sampling_rate=16000,
    )
    transformer = d.LTX2VideoTransformer3DModel(
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
    )
    connectors = _Connectors(
        caption_channels=TEXT_DIM,
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
    )
    text = t.Gemma3TextConfig(
        vocab_size=300,
        hidden_size=TEXT_DIM,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    vision = t.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    gemma = t.Gemma3ForConditionalGeneration(
        t.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    )
    return d.LTX2Pipeline(
        vae=vae,
        audio_vae=audio_vae,
        text_encoder=gemma,
        tokenizer=tokenizer(),
        connectors=connectors,
        transformer=transformer,
        vocoder=vocoder,
        scheduler=d.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1
        ),
    )


def _hunyuan(*, image: bool) -> Any:
    qwen = t.Qwen2_5_VLTextModel(
        t.Qwen2_5_VLTextConfig(
            vocab_size=300,
            hidden_size=TEXT_DIM,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            bos_token_id=0,
            eos_token_id=1,
            rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        )
    )
    chat = tokenizer()
    # The pipeline cuts off 108 tokens, the length of the makers' instructions.
    chat.chat_template = "{{ 'a' * 108 }}{{ messages[-1]['content'] }}"
    byt5 = t.T5EncoderModel(
        t.T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    vae = d.AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8, 8),
        layers_per_block=1,
        spatial_compression_ratio=16,
        temporal_compression_ratio=4,
    )
    transformer = d.HunyuanVideo15Transformer3DModel(
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
        rope_axes_dim=(4, 6, 6),
        target_size=64,
        task_type="i2v" if image else "t2v",
    )
    parts = {
        "text_encoder": qwen,
        "tokenizer": chat,
        "text_encoder_2": byt5,
        "tokenizer_2": t.ByT5Tokenizer(),
        "vae": vae,
        "transformer": transformer,
        "scheduler": d.FlowMatchEulerDiscreteScheduler(shift=5.0),
        "guider": _Guider(guidance_scale=6.0),
    }
    if not image:
        return d.HunyuanVideo15Pipeline(**parts)
    siglip = t.SiglipVisionModel(
        t.SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
    )
    return d.HunyuanVideo15ImageToVideoPipeline(
        **parts,
        image_encoder=siglip,
        feature_extractor=t.SiglipImageProcessorPil(size={"height": 32, "width": 32}),
    )


def _cogvideox(*, image: bool) -> Any:
    vae = d.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        # Tiles of half of it, 48x40: their overlaps, a sixth and a fifth, are whole latents, as at the real 480x720.
        sample_height=96,
        sample_width=80,
        temporal_compression_ratio=4,
    )
    transformer = d.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8 if image else 4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=TEXT_DIM,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=17,
        max_text_seq_length=24,
        # As the 5B weights: the I2V ones have learnt their places, the 2B ones compute them.
        use_rotary_positional_embeddings=image,
        use_learned_positional_embeddings=image,
    )
    kind = d.CogVideoXImageToVideoPipeline if image else d.CogVideoXPipeline
    scheduler = d.CogVideoXDPMScheduler if image else d.CogVideoXDDIMScheduler
    return kind(
        **_t5(),
        vae=vae,
        transformer=transformer,
        scheduler=scheduler(
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
    )


def _mochi() -> Any:
    vae = d.AutoencoderKLMochi(
        # Its norms work on groups of 32.
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        latent_channels=12,
        layers_per_block=(1, 1, 1, 1, 1),
        add_attention_block=(False, False, False, False, False),
    )
    transformer = d.MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=TEXT_DIM,
        time_embed_dim=8,
        max_sequence_length=24,
    )
    return d.MochiPipeline(
        **_t5(),
        vae=vae,
        transformer=transformer,
        scheduler=d.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        force_zeros_for_empty_prompt=True,
    )
