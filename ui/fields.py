"""The form's components, in the order of `Form`, and their updates."""

from collections.abc import Callable, Sequence
from typing import Any

from router.contract.card import ModelCard
from router.contract.request import Mode
from ui._gradio import gr
from ui.finishing import FACTORS, LOOPS, PREVIEWS, RATES
from ui.form import (
    AUTO,
    CAMERAS,
    DEADLINES,
    MODES,
    QUALITIES,
    Choices,
    Form,
    field_choices,
    model_choices,
    with_value,
)
from ui.frame_drop import FrameDrop
from ui.names import Names
from ui.text import Text

Say = Callable[[str], Any]
"""Key -> label in the browser's language."""


class Fields:
    """Built inside the form's column; every input is interactive by hand, or Gradio disables what no event uses."""

    def __init__(self, say: Say, drop: Callable[[str, str], FrameDrop]) -> None:
        """`drop` makes the panel for one frame: text key, element id."""
        self._say = say
        default = (say("default"), AUTO)
        self.prompt = gr.Textbox(
            label=say("prompt"),
            placeholder=say("prompt_hint"),
            lines=4,
            max_lines=12,
            elem_id="prompt",
            interactive=True,
        )
        with gr.Row(elem_classes="vg-row vg-frames"):
            self.first = drop("first_frame", "first-frame")
            self.last = drop("last_frame", "last-frame")
        self.model = self._choice("model", [(say("model_any"), AUTO)], filterable=True)
        with gr.Row(elem_classes="vg-row"):
            self.quality = self._choice(
                "quality", [default, *((say(tier.value), tier.value) for tier in QUALITIES)]
            )
            self.duration = self._choice("duration", [default])
            self.resolution = self._choice("resolution", [default])
            self.aspect = self._choice("aspect", [default])
        with gr.Accordion(say("more"), open=False, elem_id="more"):
            self.mode = self._choice("mode", [default])
            with gr.Row(elem_classes="vg-row"):
                cameras = [(say(f"camera_{name}"), name) for name in CAMERAS]
                self.camera = self._choice("camera", [default, *cameras])
                self.audio = self._choice("audio", [default, (say("on"), "on"), (say("off"), "off")])
                deadlines = [
                    (say("no_deadline"), AUTO),
                    *((say(f"within_{span}"), span) for span in DEADLINES),
                ]
                self.deadline = self._choice("deadline", deadlines)
            with gr.Row(elem_classes="vg-row"):
                self.max_usd = self._line("max_usd", "max-usd")
                self.seed = self._line("seed", "seed")
            self.negative = gr.Textbox(
                label=say("negative"),
                placeholder=say("negative_hint"),
                lines=2,
                elem_id="negative",
                interactive=True,
            )
            self.allow_drop = gr.Checkbox(label=say("allow_drop"), elem_id="allow-drop", interactive=True)
        with gr.Accordion(say("finishing"), open=False, elem_id="finishing"):
            gr.Markdown(say("finishing_note"), elem_classes="vg-fine")
            none = (say("post_none"), AUTO)
            with gr.Row(elem_classes="vg-row"):
                self.post_fps = self._choice("post_fps", [none, *((f"{rate} fps", rate) for rate in RATES)])
                self.post_upscale = self._choice("post_upscale", [none, *((f"{by}×", by) for by in FACTORS)])
                self.post_loop = self._choice(
                    "post_loop", [none, *((say(f"post_{style}"), style) for style in LOOPS)]
                )
            with gr.Row(elem_classes="vg-row"):
                self.post_preview = self._choice(
                    "post_preview", [none, *((say(f"post_{kind}"), kind) for kind in PREVIEWS)]
                )
                self.post_poster = self._line("post_poster", "post-poster")

    def _choice(self, name: str, choices: list[Any], *, filterable: bool = False) -> gr.Dropdown:
        return gr.Dropdown(
            choices=choices,
            value=AUTO,
            label=self._say(name),
            elem_id=name.replace("_", "-"),
            interactive=True,
            filterable=filterable,
            min_width=110,
        )

    def _line(self, name: str, elem_id: str) -> gr.Textbox:
        return gr.Textbox(
            label=self._say(name),
            placeholder=self._say(f"{name}_hint"),
            elem_id=elem_id,
            interactive=True,
            min_width=110,
            max_lines=1,
        )

    @property
    def form(self) -> list[Any]:
        """The components in the order of `Form`."""
        return [
            self.prompt,
            self.model,
            self.quality,
            self.duration,
            self.resolution,
            self.aspect,
            self.mode,
            self.negative,
            self.camera,
            self.audio,
            self.seed,
            self.max_usd,
            self.deadline,
            self.allow_drop,
            self.post_fps,
            self.post_upscale,
            self.post_loop,
            self.post_preview,
            self.post_poster,
        ]

    @property
    def wanted(self) -> list[Any]:
        """What a request is made of: both frames, then the form."""
        return [self.first.reference, self.last.reference, *self.form]

    @property
    def chosen(self) -> list[Any]:
        """Controls whose every change asks for a new plan; typing has its own pause."""
        return [
            self.model,
            self.quality,
            self.duration,
            self.resolution,
            self.aspect,
            self.mode,
            self.camera,
            self.audio,
            self.deadline,
            self.allow_drop,
            self.post_fps,
            self.post_upscale,
            self.post_loop,
            self.post_preview,
        ]


def offers(text: Text, cards: Sequence[ModelCard], names: Names, standing: Mode) -> tuple[Any, ...]:
    """On load: model, duration, resolution, aspect and mode with what this server can do."""
    fields = field_choices(cards, AUTO, text)
    return (
        gr.Dropdown(choices=model_choices(cards, names, text)),
        *(gr.Dropdown(choices=fields[name]) for name in ("duration", "resolution", "aspect")),
        gr.Dropdown(choices=_modes(text, standing)),
    )


def _modes(text: Text, standing: Mode) -> Choices:
    modes = [(text("mode_" + mode.value.replace("-", "_")), mode.value) for mode in MODES]
    label = next(label for label, value in modes if value == standing.value)
    return [(text("mode_auto", mode=label), AUTO), *modes]


def follow(text: Text, cards: Sequence[ModelCard], model: str, values: dict[str, str]) -> tuple[Any, ...]:
    """Offer what the chosen model can do; a value it cannot do goes back to the model's default."""
    fields = field_choices(cards, model, text)
    updates = []
    for name, value in values.items():
        known = any(value == one for _, one in fields[name])
        updates.append(gr.Dropdown(choices=fields[name], value=value if known else AUTO))
    return tuple(updates)


def refill(text: Text, cards: Sequence[ModelCard], names: Names, form: Form) -> tuple[Any, ...]:
    """Updates of all components of `Fields.form`; a value that is no longer offered is offered once more."""
    fields = field_choices(cards, form.model, text)
    cameras = [(text("default"), AUTO), *((text(f"camera_{name}"), name) for name in CAMERAS)]
    none = (text("post_none"), AUTO)

    def choice(choices: Choices, value: str) -> Any:
        return gr.Dropdown(choices=with_value(choices, value), value=value)

    return (
        form.prompt,
        choice(model_choices(cards, names, text), form.model),
        form.quality,
        choice(fields["duration"], form.duration),
        choice(fields["resolution"], form.resolution),
        choice(fields["aspect"], form.aspect),
        form.mode,
        form.negative,
        choice(cameras, form.camera),
        form.audio,
        form.seed,
        form.max_usd,
        form.deadline,
        form.allow_drop,
        choice([none, *((f"{rate} fps", rate) for rate in RATES)], form.post_fps),
        choice([none, *((f"{by}×", by) for by in FACTORS)], form.post_upscale),
        form.post_loop,
        form.post_preview,
        form.post_poster,
    )
