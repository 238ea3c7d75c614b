"""Stage two: the text encoder learns to name a caption's attributes before it drives the video."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from local_models.tiny_training import models, scenes, words

log = logging.getLogger(__name__)

BATCH = 96
PEAK_RATE = 3e-3
_LABELS: dict[str, tuple[str, ...]] = {
    "colour": tuple(scenes.COLOURS),
    "background": tuple(scenes.BACKGROUNDS),
    "shape": scenes.SHAPES,
    "motion": scenes.MOTIONS,
}
IGNORE = -100


class AttributeHeads(nn.Module):
    """Four linear readings of the mean token; used in training only, never shipped."""

    def __init__(self) -> None:
        """One head for each attribute."""
        super().__init__()
        self.heads = nn.ModuleDict({k: nn.Linear(models.TEXT_DIM, len(v)) for k, v in _LABELS.items()})

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits for each attribute."""
        weight = mask.to(tokens.dtype)[..., None]
        pooled = (tokens * weight).sum(1) / weight.sum(1)
        return {k: head(pooled) for k, head in self.heads.items()}


def labels(captions: Sequence[scenes.Caption]) -> dict[str, torch.Tensor]:
    """Label numbers for each attribute, IGNORE where a caption leaves it open."""
    out: dict[str, torch.Tensor] = {}
    for key, names in _LABELS.items():
        values = [getattr(c, key) for c in captions]
        out[key] = torch.tensor([names.index(v) if v is not None else IGNORE for v in values])
    return out


def attribute_loss(logits: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum of the four cross entropies, over the captions that name the attribute."""
    total = torch.zeros(())
    for key, value in logits.items():
        known = target[key] != IGNORE
        if known.any():
            total = total + nn.functional.cross_entropy(value[known], target[key][known])
    return total


def tokens(tokenizer: Any, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers and mask, padded to the one length the model knows."""
    coded = tokenizer(
        list(texts), padding="max_length", max_length=models.TEXT_LENGTH, truncation=True, return_tensors="pt"
    )
    return coded.input_ids, coded.attention_mask


def encode(encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Token embeddings with zeros after the text, as the pipelines make them."""
    hidden: torch.Tensor = encoder(ids, mask).last_hidden_state
    return hidden * mask.to(hidden.dtype)[..., None]


def train(work: Path, budget: float) -> None:
    """Train for `budget` seconds and keep the encoder, the heads and the tokenizer."""
    models.quiet_cpu()
    torch.manual_seed(2)
    rng = random.Random(2)
    tokenizer = words.build_tokenizer()
    tokenizer.save_pretrained(work / "tokenizer")
    encoder = models.build_text_encoder(len(tokenizer))
    heads = AttributeHeads()
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    combos, unseen = scenes.training_mix(), scenes.held_out_combos()
    clock = models.Clock(budget)
    clock.start()
    step = 0
    while clock.progress < 1:
        rate = (
            PEAK_RATE * min(1.0, (step + 1) / 50) * max(0.02, 0.5 * (1 + math.cos(math.pi * clock.progress)))
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        captions = [words.draw_caption(rng.choice(combos), rng) for _ in range(BATCH)]
        ids, mask = tokens(tokenizer, [c.text for c in captions])
        loss = attribute_loss(heads(encoder(ids, mask).last_hidden_state, mask), labels(captions))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            log.info(f"text step {step} time {clock.elapsed:.0f} loss {loss.item():.4f}")
    for language in scenes.LANGUAGES:
        captions = [scenes.caption(rng.choice(unseen), rng, language) for _ in range(400)]
        with torch.no_grad():
            ids, mask = tokens(tokenizer, [c.text for c in captions])
            logits = heads(encoder(ids, mask).last_hidden_state, mask)
        target = labels(captions)
        scores = {k: f"{(v.argmax(1) == target[k]).float().mean().item():.3f}" for k, v in logits.items()}
        log.info(f"text held-out {language} {scores}")
    torch.save({"encoder": encoder.state_dict(), "heads": heads.state_dict()}, work / "text.pt")
