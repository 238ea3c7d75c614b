"""Prompts to embeddings: read once, kept by hash; the encoders are on the device only while they read."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any

import torch

from local_models._memory import LoadPlan

EMBEDDINGS_KEPT = 64
"""Prompt embeddings are kept by hash: a batch over one prompt or negative prompt encodes it once."""
BYTES_KEPT = 4_000_000_000
"""LTX-2 keeps every layer of its encoder: 385 MB per prompt in bf16. The others take 2 to 8 MB."""
KEPT_AT_LEAST = 2
"""A prompt and the negative one beside it."""

Embedded = dict[str, torch.Tensor]
"""Tensors by the name that the family's pipeline knows them under, each [1, ...]."""
Read = Callable[[str, int, torch.device], tuple[Embedded, bool]]
"""Text, most tokens and where to compute to embeddings, and whether the text was cut."""


class Prompts:
    """The text encoders of one loaded model, and what they made of the last texts."""

    def __init__(
        self, encoders: Sequence[torch.nn.Module], read: Read, plan: LoadPlan, device: torch.device
    ) -> None:
        """`read` is the family's own way to use the encoders; results come back on `device`."""
        self.encoders = tuple(encoders)
        self._read, self._device = read, device
        self._reads_on = torch.device("cpu") if plan.text_on_cpu else device
        self._visits = plan.offload != "none" and not (plan.text_on_cpu or plan.text_streamed)
        self._kept: OrderedDict[str, tuple[Embedded, bool]] = OrderedDict()

    def fill(self, texts: Iterable[str], length: int, ahead: Iterable[str] = ()) -> None:
        """Read every text that is not known yet in one visit of the encoders to the device.

        Texts that only later jobs need, `ahead`, are read when the encoders must come for `texts` anyway, and as many
        as are kept.
        """
        wanted = {_key(text, length): text for text in texts}
        for key in wanted.keys() & self._kept.keys():
            self._kept.move_to_end(key)
        if wanted.keys() <= self._kept.keys():
            return
        wanted |= {_key(text, length): text for text in ahead}
        with torch.no_grad(), self._visit():
            for key, text in wanted.items():
                if key in self._kept:
                    continue
                found, cut = self._read(text, length, self._reads_on)
                self._kept[key] = {name: tensor.cpu() for name, tensor in found.items()}, cut
                if not self._forget(wanted.keys()):
                    break

    def embed(self, text: str, length: int) -> tuple[Embedded, bool]:
        """Embeddings on the device, and whether the text was cut at `length` tokens."""
        self.fill([text], length)
        kept, cut = self._kept[_key(text, length)]
        return {name: tensor.to(self._device) for name, tensor in kept.items()}, cut

    def _forget(self, wanted: Set[str]) -> bool:
        """The least used go, once there are too many or they take too much memory; False when only wanted ones are left."""
        while len(self._kept) > KEPT_AT_LEAST and (
            len(self._kept) > EMBEDDINGS_KEPT or self._bytes() > BYTES_KEPT
        ):
            oldest = next((key for key in self._kept if key not in wanted), None)
            if oldest is None:
                return False
            del self._kept[oldest]
        return True

    def _bytes(self) -> int:
        return sum(tensor.nbytes for kept, _ in self._kept.values() for tensor in kept.values())

    @contextmanager
    def _visit(self) -> Iterator[None]:
        try:
            if self._visits:
                for encoder in self.encoders:
                    encoder.to(self._device)
            yield
        finally:
            if self._visits:
                for encoder in self.encoders:
                    encoder.to("cpu")


def reader(speaker: Any, tokenizer: Any, names: Sequence[str]) -> Read:
    """For pipelines with diffusers' usual `encode_prompt`, whose results for the prompt are called `names`.

    `speaker` is a pipeline of the family that has its text parts.
    """

    def read(text: str, length: int, device: torch.device) -> tuple[Embedded, bool]:
        cut = len(tokenizer(text).input_ids) > length
        found = speaker.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=length, device=device
        )
        return dict(zip(names, found, strict=False)), cut

    return read


def _key(text: str, length: int) -> str:
    return hashlib.sha256(f"{length}\0{text}".encode()).hexdigest()
