"""The tokenizer: byte-level BPE trained on our own captions, so that no text is unknown."""

from __future__ import annotations

import random
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from local_models.tiny_training import scenes

VOCABULARY = 1000
JAPANESE_SHARE = 0.35
PARTIAL_SHARE = 0.15
# Japanese has no spaces: cut at particles and stops, so that the words between them become tokens.
_PARTICLES = Regex("から|背景|方向|している|ている|する|カメラ|[のがでにへをは、。]")
# Words people write around a prompt; kept in the vocabulary so that they take few tokens.
_EXTRA = "please make a video of an animation showing the object shape in front slowly quickly smoothly cat"


def draw_caption(combo: scenes.Combo, rng: random.Random) -> scenes.Caption:
    """A training caption: two thirds English, some with attributes left out."""
    language = "ja" if rng.random() < JAPANESE_SHARE else "en"
    return scenes.caption(combo, rng, language, partial=PARTIAL_SHARE)


def build_tokenizer(count: int = 30000, seed: int = 0) -> Any:
    """Train the tokenizer on fresh captions; the same seed gives the same tokenizer."""
    rng = random.Random(seed)
    combos = scenes.train_combos()
    captions = [draw_caption(rng.choice(combos), rng).text for _ in range(count)] + [_EXTRA] * 200
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_PARTICLES, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(captions, trainer)
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    build: Any = PreTrainedTokenizerFast
    return build(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", model_max_length=512, padding_side="right"
    )
