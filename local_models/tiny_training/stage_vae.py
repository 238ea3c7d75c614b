"""Stage one: the VAE, on whole 17-frame clips."""

from __future__ import annotations

import dataclasses
import logging
import math
import random
from pathlib import Path

import torch

from local_models.tiny_training import models, scenes

log = logging.getLogger(__name__)

CLIP_BATCH = 3
IMAGE_BATCH = 48
MIXED_IMAGES = 24
IMAGE_PHASE = 0.25
PICTURE_SHARE = 0.12
IMAGE_RATE = 1.5e-3
CLIP_RATE = 5e-4
LATENT_NOISE = 0.15
POLISH_RATE = 6e-4
POLISH_NOISE = 0.1
SCALE_PENALTY = 1e-3


def batch(rng: random.Random, combos: list[scenes.Combo], count: int) -> torch.Tensor:
    """Clips of the world, with a few of other pictures."""
    others = sum(rng.random() < PICTURE_SHARE for _ in range(count))
    inside = [scenes.sample_scene(rng.choice(combos), rng) for _ in range(count - others)]
    parts = [scenes.render(inside)] if inside else []
    if others:
        parts.append(scenes.pictures(others, rng))
    return torch.cat(parts)


def image_batch(rng: random.Random, combos: list[scenes.Combo], count: int) -> torch.Tensor:
    """Single frames, from the start or the end of a clip: they teach space far faster than whole clips."""
    drawn = [scenes.sample_scene(rng.choice(combos), rng) for _ in range(count)]
    turned = [
        dataclasses.replace(s, start=s.end, radius=s.radius[::-1]) if rng.random() < 0.5 else s for s in drawn
    ]
    others = max(1, round(count * PICTURE_SHARE))
    return torch.cat([scenes.render(turned[others:], frames=1), scenes.pictures(others, rng, frames=1)])


def learning_rate(progress: float, since: int) -> float:
    """A warm-up in each phase; the image phase stays flat, the clip phase falls to nothing."""
    warm = min(1.0, (since + 1) / 60)
    if progress < IMAGE_PHASE:
        return IMAGE_RATE * warm
    done = (progress - IMAGE_PHASE) / (1 - IMAGE_PHASE)
    return CLIP_RATE * warm * max(0.01, 0.5 * (1 + math.cos(math.pi * done)))


def loss_of(full: models.FullClipVAE, clips: torch.Tensor) -> torch.Tensor:
    """How badly clips come back from slightly noisy latents, and a small price on the latents' size."""
    latents = full.encode(clips)
    error = full.decode(latents + LATENT_NOISE * torch.randn_like(latents)) - clips
    return error.abs().mean() + 2 * error.square().mean() + SCALE_PENALTY * latents.square().mean()


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of two tensors in -1..1, in dB."""
    return -10 * math.log10(max(1e-9, ((a - b) / 2).square().mean().item()))


def train(work: Path, budget: float) -> None:
    """Train for `budget` seconds in all, going on from the last checkpoint."""
    models.quiet_cpu()
    torch.manual_seed(1)
    rng = random.Random(1)
    vae = models.build_vae()
    full = models.FullClipVAE(vae)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=IMAGE_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    clock = models.Clock(budget)
    path = work / "vae.pt"
    step, switched = 0, -1
    if path.exists():
        saved = torch.load(path, weights_only=True)
        vae.load_state_dict(saved["vae"])
        optimiser.load_state_dict(saved["optimiser"])
        step, clock.spent = saved["step"], saved["elapsed"]
        rng = random.Random(step)
    combos = scenes.train_combos()
    test = scenes.render([scenes.sample_scene(c, rng) for c in scenes.held_out_combos()[::12]])
    outside = scenes.pictures(8, rng)
    clock.start()
    while clock.progress < 1:
        images = clock.progress < IMAGE_PHASE
        if not images and switched < 0:
            switched = step
            _save(work / "vae_images.pt", vae, optimiser, step, clock.elapsed)
        rate = learning_rate(clock.progress, step - max(switched, 0))
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = loss_of(full, image_batch(rng, combos, IMAGE_BATCH if images else MIXED_IMAGES))
        if not images:
            loss = (loss + loss_of(full, batch(rng, combos, CLIP_BATCH))) / 2
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            with torch.no_grad():
                code = full.encode(test)
                inside, first = (
                    full.decode(code).clamp(-1, 1),
                    full.decode(full.encode(test[:, :, :1])).clamp(-1, 1),
                )
                other = full.decode(full.encode(outside)).clamp(-1, 1)
            log.info(
                f"vae step {step} time {clock.elapsed:.0f} loss {loss.item():.4f} clip {psnr(inside, test):.1f} dB "
                f"first frame {psnr(first, test[:, :, :1]):.1f} dB last frame "
                f"{psnr(inside[:, :, -1], test[:, :, -1]):.1f} dB other {psnr(other, outside):.1f} dB "
                f"latent std {code.std().item():.2f}"
            )
            _save(path, vae, optimiser, step, clock.elapsed)
    _save(path, vae, optimiser, step, clock.elapsed)


def polish(work: Path, budget: float) -> None:
    """Train the decoder alone for `budget` seconds: the latents, and what was learnt from them, stay valid."""
    models.quiet_cpu()
    torch.manual_seed(5)
    rng = random.Random(5)
    vae = models.build_vae()
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True)["vae"])
    full = models.FullClipVAE(vae)
    parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=POLISH_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    combos = scenes.train_combos()
    test = scenes.render([scenes.sample_scene(c, rng) for c in scenes.held_out_combos()[::12]])
    clock = models.Clock(budget)
    clock.start()
    step = 0
    while clock.progress < 1:
        fall = 0.5 * (1 + math.cos(math.pi * clock.progress))
        for group in optimiser.param_groups:
            group["lr"] = POLISH_RATE * min(1.0, (step + 1) / 60) * max(0.01, fall)
        loss = torch.zeros(())
        for clips in (image_batch(rng, combos, MIXED_IMAGES), batch(rng, combos, CLIP_BATCH)):
            with torch.no_grad():
                latents = full.encode(clips)
                latents = latents + POLISH_NOISE * torch.randn_like(latents)
            error = full.decode(latents) - clips
            loss = loss + error.abs().mean() + 2 * error.square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            with torch.no_grad():
                seen = full.decode(full.encode(test)).clamp(-1, 1)
            first, whole = psnr(seen[:, :, 0], test[:, :, 0]), psnr(seen, test)
            log.info(
                f"polish step {step} time {clock.elapsed:.0f} clip {whole:.1f} dB first frame {first:.1f} dB"
            )
            torch.save({"vae": vae.state_dict()}, work / "vae_polished.pt")
    torch.save({"vae": vae.state_dict()}, work / "vae_polished.pt")


def _save(
    path: Path, vae: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int, elapsed: float
) -> None:
    """Write the checkpoint whole, then put it in place."""
    part = path.with_suffix(".part")
    torch.save(
        {"vae": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "elapsed": elapsed}, part
    )
    part.replace(path)
