"""A loaded model of any family: its parts on the device as the plan says, where a run can be stopped, fresh state."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading

from local_models._clip import Clip, Finish, OnStep
from local_models._decode import decode, tiles
from local_models._ladder import cut_tiles
from local_models._load import quantised
from local_models._memory import LoadPlan
from local_models._prompts import Prompts, reader
from local_models._sketch import Colours, Show, Sketch
from local_models._weights import Weights, damaged

# diffusers is typed in part only.
_offload_in_groups: Any = apply_group_offloading


@dataclass
class Pipe:
    """What the model process keeps between two jobs."""

    pipeline: Any
    """The diffusers pipeline that owns the offload hooks. Its text encoders are taken out: `prompts` has them."""
    prompts: Prompts
    plan: LoadPlan
    device: torch.device
    scheduler: Any
    """As the weights come; every run gets a fresh one made from it."""
    colours: Colours | None = field(default=None, kw_only=True)
    """Of its latents; None for a model that shows nothing on the way."""
    show: Show | None = field(default=None, kw_only=True)
    """Where the pictures of the running job go; None while nobody looks."""

    @property
    def vae(self) -> Any:
        """The video's own; LTX-2 has another one for sound."""
        return self.pipeline.vae

    @property
    def transformers(self) -> tuple[Any, ...]:
        """One, or the two experts of Wan 2.2-A14B."""
        pair = (getattr(self.pipeline, "transformer", None), getattr(self.pipeline, "transformer_2", None))
        return tuple(module for module in pair if module is not None)

    def stop_points(self) -> Iterator[torch.nn.Module]:
        """Modules that run often enough for a hook on them to end a run within a step."""
        for module in (*self.prompts.encoders, self.vae.encoder, self.vae.decoder, *self.transformers):
            yield module
            for child in module.modules():
                if isinstance(child, torch.nn.ModuleList):
                    # Mochi's VAE keeps None where a block has no attention.
                    yield from (part for part in child if part is not None)

    def settle(self) -> None:
        """After a run, ended early or not: what was moved to the device goes back under offload.

        Where nothing comes and goes nothing is touched: another clip may be on the device.
        """
        if self.plan.offload == "model":
            self.pipeline.maybe_free_model_hooks()

    def renew_scheduler(self, **changes: Any) -> Any:
        """A fresh scheduler in the pipeline: nothing of an earlier run, ended early or not, is left in it."""
        self.pipeline.scheduler = type(self.scheduler).from_config(self.scheduler.config, **changes)
        return self.pipeline.scheduler


def finishing(
    pipe: Pipe, latents: torch.Tensor, run: Callable[[], torch.Tensor], fps: int, cut: bool, *, each: int = 1
) -> Finish:
    """The second half of a run: `run` decodes these latents [1, C, T, h, w].

    `each`: how often the VAE calls its decoder for one tile; `cut`: whether the prompt was.
    """

    @torch.no_grad()
    def finish(on_step: OnStep) -> Clip:
        # Counted now: running out of memory may have made the tiles smaller.
        calls = tiles(pipe.vae, latents.shape[3], latents.shape[4]) * each
        pictures = decode(pipe.vae, run, calls, on_step)
        pipe.settle()
        return Clip(pictures, fps, pictures.shape[2], pictures.shape[1], cut)

    return finish


def assemble(
    kind: Any,
    loaded: Any,
    weights: Weights,
    vae: type,
    text: tuple[str, ...],
    plan: LoadPlan,
    device: str,
    **config: Any,
) -> Pipe:
    """A pipe of a family with one T5 encoder, from what `load_pipeline` read. Raises WeightsBroken.

    `text` names the tensors that the encoder gives, `config` what the pipeline's own index sets.
    """
    if not isinstance(loaded.vae, vae) or loaded.text_encoder is None or loaded.transformer is None:
        raise damaged(weights.directory.name, str(weights.index.get("_class_name")))
    parts = {name: getattr(loaded, name) for name in ("scheduler", "vae", "transformer")}
    target = torch.device(device)
    pipe = Pipe(
        kind(**parts, **config, text_encoder=None, tokenizer=None),
        Prompts([loaded.text_encoder], reader(loaded, loaded.tokenizer, text), plan, target),
        plan,
        target,
        loaded.scheduler,
    )
    place(pipe)
    return pipe


def place(pipe: Pipe, others: Sequence[torch.nn.Module] = ()) -> None:
    """Precision, tiling and offload of the plan. `others`: small parts that lie beside the transformer."""
    plan, device = pipe.plan, pipe.device
    pipe.pipeline.set_progress_bar_config(disable=True)
    if plan.vae_tiling:
        pipe.vae.enable_tiling()
        for _ in range(plan.tile_cuts):
            cut_tiles(pipe.vae)
    for transformer in pipe.transformers:
        transformer.set_attention_backend(plan.attention)
        if plan.layerwise_fp8 and not quantised(transformer):
            transformer.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn, compute_dtype=getattr(torch, plan.dtype)
            )
    resident: list[torch.nn.Module] = []
    match plan.offload:
        case "none":
            stays = () if plan.text_on_cpu or plan.text_streamed else pipe.prompts.encoders
            resident = [*pipe.transformers, pipe.vae, *others, *stays]
        case "model":
            pipe.pipeline.enable_model_cpu_offload(device=device)
        case "group":
            resident = [pipe.vae, *others]
            _stream(pipe.transformers, device)
    if plan.text_streamed:
        _stream(pipe.prompts.encoders, device)
    for module in resident:
        module.to(device)


def after_step(
    on_step: OnStep, steps: int, sketch: Sketch
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """For `callback_on_step_end`: tells the progress, shows the latents, changes nothing."""

    def told(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step("denoise", index + 1, steps)
        sketch.seen(index, tensors["latents"])
        return tensors

    return told


def check_finite(latents: torch.Tensor) -> None:
    """Raises FloatingPointError: a black or noisy clip is told as a failure, not handed out."""
    if not torch.isfinite(latents).all():
        raise FloatingPointError("the model produced numbers that are not finite")


def _stream(modules: Iterable[torch.nn.Module], device: torch.device) -> None:
    """Their leaves come to the device one after the other, the next one while the last one works."""
    for module in modules:
        _offload_in_groups(
            module,
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=device.type == "cuda",
        )
