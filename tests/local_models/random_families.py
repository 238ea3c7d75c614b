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

from benchmarks.gpu.tiny_configs import TEXT_DIM, TINY
from tests.local_models.random_weights import tokenizer

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


def _part(card: str, name: str, **more: Any) -> Any:
    """A component of the bench's dry run, with random weights; `more` changes its configuration."""
    part = next(model for model in TINY if model.card == f"local/{card}").parts[name]
    kind = getattr(diffusers if part.library == "diffusers" else transformers, part.kind)
    config = {**part.config, **more}
    return kind(kind.config_class(**config)) if part.library == "transformers" else kind(**config)


def _t5() -> dict[str, Any]:
    return {"text_encoder": _part("ltx-video-2b", "text_encoder"), "tokenizer": tokenizer()}


def _ltx() -> Any:
    return d.LTXConditionPipeline(
        **_t5(),
        vae=_part("ltx-video-2b", "vae"),
        transformer=_part("ltx-video-2b", "transformer"),
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
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
    chat = tokenizer()
    # The pipeline cuts off 108 tokens, the length of the makers' instructions.
    chat.chat_template = "{{ 'a' * 108 }}{{ messages[-1]['content'] }}"
    card = "hunyuan-video-1.5-t2v-480p"
    parts = {
        "text_encoder": _part(card, "text_encoder"),
        "tokenizer": chat,
        "text_encoder_2": _part(card, "text_encoder_2"),
        "tokenizer_2": t.ByT5Tokenizer(),
        "vae": _part(card, "vae"),
        "transformer": _part(card, "transformer", task_type="i2v" if image else "t2v"),
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
    # As the 5B weights: the I2V ones have learnt their places, the 2B ones compute them.
    places = {"use_rotary_positional_embeddings": image, "use_learned_positional_embeddings": image}
    transformer = _part("cogvideox-2b", "transformer", in_channels=8 if image else 4, **places)
    kind = d.CogVideoXImageToVideoPipeline if image else d.CogVideoXPipeline
    scheduler = d.CogVideoXDPMScheduler if image else d.CogVideoXDDIMScheduler
    return kind(
        **_t5(),
        vae=_part("cogvideox-2b", "vae"),
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
