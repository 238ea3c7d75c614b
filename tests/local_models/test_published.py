"""The table of published configurations says what each family's own code reads from the weights' configuration."""

import importlib
import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from local_models._published import GEMMA_B, MODELS, Published
from local_models._weights import Part, Weights

WAN = {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40}
SMALL = {**WAN, "num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
TI2V = {**WAN, "num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30}
TI2V_VAE = {"decoder_base_dim": 256, "base_dim": 160, "scale_factor_spatial": 16}
LTX_095_VAE: dict[str, Any] = {"decoder_block_out_channels": [256, 512, 1024]}
LTX_13B = {"num_attention_heads": 32, "attention_head_dim": 128, "num_layers": 48}
COG_5B = {"num_attention_heads": 48, "num_layers": 42}

Row = tuple[str, str, str, str, dict[str, Any], dict[str, Any], dict[str, Any]]
FAMILIES: list[Row] = [
    ("wan2.1-t2v-1.3b", "wan", "WanTransformer3DModel", "AutoencoderKLWan", SMALL, {}, {}),
    ("wan2.1-i2v-14b", "wan", "WanTransformer3DModel", "AutoencoderKLWan", WAN, {}, {}),
    ("wan2.1-t2v-14b", "wan", "WanTransformer3DModel", "AutoencoderKLWan", WAN, {}, {}),
    (
        *("wan2.2-ti2v-5b", "wan", "WanTransformer3DModel", "AutoencoderKLWan", TI2V, TI2V_VAE),
        {"expand_timesteps": True},
    ),
    ("wan2.2-t2v-a14b", "wan", "WanTransformer3DModel", "AutoencoderKLWan", WAN, {}, {}),
    ("ltx-video-13b", "ltx", "LTXVideoTransformer3DModel", "AutoencoderKLLTXVideo", LTX_13B, LTX_095_VAE, {}),
    ("ltx-2", "ltx2", "LTX2VideoTransformer3DModel", "AutoencoderKLLTX2Video", {}, {}, {}),
    ("ltx-video", "ltx", "LTXVideoTransformer3DModel", "AutoencoderKLLTXVideo", {}, LTX_095_VAE, {}),
    (
        *("hunyuanvideo-1.5", "hunyuan15", "HunyuanVideo15Transformer3DModel"),
        *("AutoencoderKLHunyuanVideo15", {}, {}, {}),
    ),
    ("cogvideox-2b", "cogvideox", "CogVideoXTransformer3DModel", "AutoencoderKLCogVideoX", {}, {}, {}),
    ("cogvideox-5b", "cogvideox", "CogVideoXTransformer3DModel", "AutoencoderKLCogVideoX", COG_5B, {}, {}),
    ("mochi", "mochi", "MochiTransformer3DModel", "AutoencoderKLMochi", {}, {}, {}),
]
"""Where diffusers' own defaults are the published configuration, nothing is repeated here."""


def defaults(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    import diffusers

    parameters = inspect.signature(getattr(diffusers, kind).__init__).parameters
    known = {
        name: list(value.default) if isinstance(value.default, tuple) else value.default
        for name, value in parameters.items()
        if value.default is not inspect.Parameter.empty
    }
    return {**known, **given}


def weights(row: Published, family: Row) -> Weights:
    _, _, transformer, vae, config, vae_config, index = family
    names = ("transformer", "transformer_2")[: row.experts]
    parts = {name: Part(round(row.transformer_b * 1e9), defaults(transformer, config)) for name in names}
    parts["vae"] = Part(round(row.vae_b * 1e9), defaults(vae, vae_config))
    parts["text_encoder"] = Part(round(row.text_b * 1e9), {})
    parts["image_encoder"] = Part(round(row.image_b * 1e9), {})
    return Weights(Path("x"), index, parts)


@pytest.mark.parametrize(("row", "family"), list(zip(MODELS, FAMILIES, strict=True)))
@pytest.mark.parametrize("size", [(704, 480, 97), (1280, 704, 121)])
def test_the_table_and_the_familys_code_agree(
    row: Published, family: Row, size: tuple[int, int, int]
) -> None:
    module = importlib.import_module(f"local_models.{family[1]}")
    own = asdict(module.numbers(weights(row, family), *size))
    table = asdict(row.numbers(*size, own["steps"], own["passes"]))
    for numbers in (own, table):
        # Both mean "all of them".
        numbers["decode_frames"] = min(numbers["decode_frames"], numbers["frames"])
    assert table == {key: pytest.approx(value) for key, value in own.items()}


def test_what_lies_beside_ltx2s_transformer_is_counted_whole() -> None:
    """The text connectors are larger than the VAE; Gemma comes with its vision tower. Configurations: the libraries'
    defaults are the published ones."""
    import diffusers
    import torch
    import transformers as t
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    row = next(row for row in MODELS if row.text_b == GEMMA_B)
    gemma = t.Gemma3Config(
        text_config=t.Gemma3TextConfig(
            vocab_size=262208,
            hidden_size=3840,
            intermediate_size=15360,
            num_hidden_layers=48,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=256,
        ),
        vision_config=t.SiglipVisionConfig(
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=27,
            num_attention_heads=16,
            image_size=896,
            patch_size=14,
        ),
    )
    made: tuple[Any, ...] = (
        diffusers.AutoencoderKLLTX2Video,
        diffusers.AutoencoderKLLTX2Audio,
        LTX2TextConnectors,
        LTX2Vocoder,
    )
    with torch.device("meta"):
        beside = sum(parameters_b(kind()) for kind in made)
        text = parameters_b(t.Gemma3ForConditionalGeneration(gemma))
    assert row.vae_b == pytest.approx(beside, rel=0.002)
    assert row.text_b == pytest.approx(text, rel=0.002)


def parameters_b(module: Any) -> float:
    return float(sum(part.numel() for part in module.parameters())) / 1e9
