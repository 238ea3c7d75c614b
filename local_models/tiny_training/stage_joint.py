"""Stage three: the transformer learns to turn noise and a caption, or a first frame too, into latents."""

from __future__ import annotations

import copy
import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import WanPipeline
from torch import nn
from transformers import AutoTokenizer

from local_models.tiny_training import analyse, models, scenes, stage_text, words

log = logging.getLogger(__name__)

BATCH = 32
PEAK_RATE = 3e-3
TEXT_RATE = 0.2
CLIPS = 6144
FRESH = 2
EMPTY_SHARE = 0.1
IMAGE_SHARE = 0.3
CENTRED_SHARE = 0.15
AUXILIARY = 0.05
EMA = 0.9985
GATE_SECONDS = 240.0


class LatentPool:
    """Encoded clips with their combinations; old ones give way to fresh ones while training runs."""

    def __init__(self, vae: Any, seed: int) -> None:
        """An empty pool over a copy of this VAE."""
        self.full = models.FullClipVAE(copy.deepcopy(vae)).eval()
        self.rng = random.Random(seed)
        self.train = scenes.training_mix()
        self.combos: list[scenes.Combo] = []
        self.latents = torch.empty(0)
        self.next = 0

    @torch.no_grad()
    def draw(self, count: int) -> tuple[torch.Tensor, list[scenes.Combo]]:
        """Render and encode new clips."""
        drawn = [
            scenes.sample_scene(
                self.rng.choice(self.train), self.rng, centred=self.rng.random() < CENTRED_SHARE
            )
            for _ in range(count)
        ]
        return self.full.encode(scenes.render(drawn)), [s.combo for s in drawn]

    def fill(self, count: int) -> None:
        """Make the first pool."""
        parts = []
        while len(self.combos) < count:
            latents, combos = self.draw(32)
            parts.append(latents)
            self.combos.extend(combos)
        self.latents = torch.cat(parts)

    def renew(self, count: int) -> None:
        """Replace the oldest clips."""
        latents, combos = self.draw(count)
        for latent, combo in zip(latents, combos, strict=True):
            self.latents[self.next], self.combos[self.next] = latent, combo
            self.next = (self.next + 1) % len(self.combos)


def load_vae(work: Path) -> Any:
    """The trained VAE, polished where that was done, with its latent statistics once they are measured."""
    vae = models.build_vae()
    polished = work / "vae_polished.pt"
    best = polished if polished.exists() else work / "vae.pt"
    vae.load_state_dict(torch.load(best, weights_only=True)["vae"])
    statistics = work / "statistics.pt"
    if statistics.exists():
        saved = torch.load(statistics, weights_only=True)
        vae.register_to_config(latents_mean=saved["mean"].tolist(), latents_std=saved["std"].tolist())
    return vae.eval().requires_grad_(False)


def encode_pool(work: Path) -> None:
    """Encode the first pool of clips and measure the latents' mean and spread."""
    models.quiet_cpu()
    pool = LatentPool(load_vae(work), seed=3)
    pool.fill(CLIPS)
    flat = pool.latents.transpose(0, 1).flatten(1)
    mean, std = flat.mean(1), flat.std(1)
    # A channel the clips hardly use must not be blown up to the size of the others.
    std = std.clamp_min(0.5 * float(std.median()))
    torch.save({"mean": mean, "std": std}, work / "statistics.pt")
    torch.save({"latents": pool.latents.half(), "combos": [list(c) for c in pool.combos]}, work / "pool.pt")
    log.info(f"pool {len(pool.combos)} clips, spread {std.min().item():.2f} to {std.max().item():.2f}")


def learning_rate(progress: float, step: int) -> float:
    """Warm-up, a flat part, and a fall over the last 40 %."""
    fall = 1.0 if progress < 0.6 else 0.5 * (1 + math.cos(math.pi * (progress - 0.6) / 0.4))
    return min(1.0, (step + 1) / 150) * max(fall, 0.01)


def sigmas(count: int) -> torch.Tensor:
    """Logit-normal noise levels, moved towards noise by the flow shift."""
    u = torch.sigmoid(torch.randn(count))
    return models.FLOW_SHIFT * u / (1 + (models.FLOW_SHIFT - 1) * u)


def make_pipeline(
    work: Path,
    vae: Any,
    encoder: nn.Module,
    tokenizer: Any,
    transformer: nn.Module,
) -> Any:
    """A standard pipeline over these parts."""
    build: Any = WanPipeline
    pipe = build(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=vae,
        scheduler=models.build_scheduler(),
        transformer=transformer,
        expand_timesteps=True,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def gate(pipe: Any, count: int = 64) -> str:
    """Score held-out prompts by their pixels, half of them Japanese."""
    rng = random.Random(11)
    combos = rng.sample(scenes.held_out_combos(), count)
    captions = [scenes.caption(c, rng, "ja" if i % 2 else "en") for i, c in enumerate(combos)]
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    frames = pipe(
        prompt=[c.text for c in captions],
        height=scenes.SIZE,
        width=scenes.SIZE,
        num_frames=scenes.FRAMES,
        num_inference_steps=models.STEPS,
        guidance_scale=models.GUIDANCE,
        max_sequence_length=models.TEXT_LENGTH,
        generator=generators,
        output_type="np",
    ).frames
    right = np.zeros((count, 3))
    for i, (combo, clip) in enumerate(zip(combos, frames, strict=True)):
        seen = analyse.analyse(np.asarray(clip, dtype=np.float32))
        right[i] = (
            seen.background == combo.background,
            seen.colour == combo.colour,
            seen.motion == combo.motion,
        )
    en, ja = right[0::2].mean(0), right[1::2].mean(0)
    return f"background {en[0]:.2f}/{ja[0]:.2f} colour {en[1]:.2f}/{ja[1]:.2f} motion {en[2]:.2f}/{ja[2]:.2f} (en/ja)"


def train(work: Path, budget: float) -> None:
    """Train for `budget` seconds in all, going on from the last checkpoint."""
    models.quiet_cpu()
    torch.manual_seed(4)
    vae = load_vae(work)
    tokenizer: Any = AutoTokenizer.from_pretrained(work / "tokenizer")
    encoder, heads = models.build_text_encoder(len(tokenizer)), stage_text.AttributeHeads()
    text = torch.load(work / "text.pt", weights_only=True)
    encoder.load_state_dict(text["encoder"])
    heads.load_state_dict(text["heads"])
    transformer = models.build_transformer()
    nn.init.zeros_(transformer.proj_out.weight)
    parts = nn.ModuleDict({"transformer": transformer, "encoder": encoder, "heads": heads})
    average = copy.deepcopy(parts).requires_grad_(False)
    language = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(
        [{"params": list(transformer.parameters()), "share": 1.0}, {"params": language, "share": TEXT_RATE}],
        lr=PEAK_RATE,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    clock = models.Clock(budget)
    path = work / "joint.pt"
    step = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        parts.load_state_dict(saved["parts"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        step, clock.spent = saved["step"], saved["elapsed"]
        torch.manual_seed(step)
    pool = LatentPool(vae, seed=100 + step)
    stored = torch.load(work / "pool.pt", weights_only=True)
    pool.latents, pool.combos = stored["latents"].float(), [scenes.Combo(*c) for c in stored["combos"]]
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    pipe = make_pipeline(work, vae, average["encoder"], tokenizer, average["transformer"])
    rng = random.Random(200 + step)
    clock.start()
    gated, running = clock.elapsed, 0.0
    while clock.progress < 1:
        scale = learning_rate(clock.progress, step)
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * scale * group["share"]
        pool.renew(FRESH)
        chosen = [rng.randrange(len(pool.combos)) for _ in range(BATCH)]
        clean = (pool.latents[chosen] - mean) / std
        captions = [words.draw_caption(pool.combos[i], rng) for i in chosen]
        empty = torch.rand(BATCH) < EMPTY_SHARE
        texts = ["" if e else c.text for e, c in zip(empty.tolist(), captions, strict=True)]
        ids, mask = stage_text.tokens(tokenizer, texts)
        hidden = stage_text.encode(encoder, ids, mask)
        sigma = sigmas(BATCH).view(-1, 1, 1, 1, 1)
        with_image = torch.rand(BATCH) < IMAGE_SHARE
        noise = torch.randn_like(clean)
        level = sigma.expand(-1, 1, clean.shape[2], 1, 1).clone()
        level[with_image, :, 0] = 0.0
        noisy = (1 - level) * clean + level * noise
        height, width = clean.shape[3] // 2, clean.shape[4] // 2
        timestep = (level * 1000).expand(-1, 1, -1, height, width).flatten(1)
        velocity = transformer(noisy, timestep, hidden, return_dict=False)[0]
        counted = (level > 0).float()
        error = (velocity - (noise - clean)).square() * counted
        loss = error.sum() / (counted.sum() * clean.shape[1] * clean.shape[3] * clean.shape[4])
        known = {k: v.masked_fill(empty, stage_text.IGNORE) for k, v in stage_text.labels(captions).items()}
        total = loss + AUXILIARY * stage_text.attribute_loss(heads(hidden, mask), known)
        optimiser.zero_grad()
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimiser.step()
        step += 1
        decay = min(EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(parts.parameters()), 1 - decay)
        running = loss.item() if step == 1 else 0.99 * running + 0.01 * loss.item()
        if step % 250 == 0:
            log.info(f"joint step {step} time {clock.elapsed:.0f} loss {running:.4f}")
        if clock.elapsed - gated > GATE_SECONDS or clock.progress >= 1:
            log.info(f"joint gate at step {step} time {clock.elapsed:.0f}: {gate(pipe)}")
            gated = clock.elapsed
            part = path.with_suffix(".part")
            torch.save(
                {
                    "parts": parts.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step,
                    "elapsed": clock.elapsed,
                },
                part,
            )
            part.replace(path)


def export(work: Path, target: Path) -> None:
    """Write the averaged weights as a diffusers directory."""
    tokenizer: Any = AutoTokenizer.from_pretrained(work / "tokenizer")
    encoder, transformer = models.build_text_encoder(len(tokenizer)), models.build_transformer()
    average = torch.load(work / "joint.pt", weights_only=True)["average"]
    encoder.load_state_dict({k[8:]: v for k, v in average.items() if k.startswith("encoder.")})
    transformer.load_state_dict({k[12:]: v for k, v in average.items() if k.startswith("transformer.")})
    models.export(target, load_vae(work), encoder, tokenizer, transformer)
