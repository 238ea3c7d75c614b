"""The Create page: the form with its live plan, jobs, the newest result and the history."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from router.contract.errors import GatewayError
from router.contract.job import Decision
from router.gateway import Gateway
from ui import fields, view
from ui._gradio import gr
from ui.fields import Fields
from ui.form import Form, offered, restore
from ui.frame_drop import FrameDrop
from ui.reader import Reader, reader_of
from ui.screen import IDLE_S, Screen
from ui.scripts import script
from ui.text import Text
from ui.view_jobs import content_url

log = logging.getLogger(__name__)
Updates = tuple[Any, ...]
"""What a Gradio handler returns, per component: a value, an update or `gr.skip()`."""
PLAN_EVERY_S = 15.0
"""A plan also changes by itself: a provider rests, a queue grows, the budget's day turns."""


class Create:
    """Built inside a `gr.Blocks`; all state lies in the gateway or in the browser's own fields."""

    def __init__(self, gateway: Gateway, i18n: gr.I18n) -> None:
        """`i18n` carries the catalogues whose keys the labels name."""
        self.gateway = gateway
        self.zone = gateway.settings.budget.zone
        self.screen = Screen(gateway)
        self._i18n = i18n

    def _say(self, key: str) -> Any:
        return self._i18n(f"vg_{key}")

    def _drop(self, key: str, elem_id: str) -> FrameDrop:
        return FrameDrop(self.gateway, key, elem_id, self._reader)

    def _reader(self, request: gr.Request) -> Reader:
        return reader_of(request, self.zone, self.gateway.settings.budget.display)

    # -- layout

    def lay_out(self) -> None:
        """Put every component into the surrounding Blocks."""
        panels = script("panels.js")
        self.head = gr.HTML(js_on_load=panels, elem_id="vg-head")
        with gr.Row(elem_id="vg-main", equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_id="vg-form", elem_classes="vg-card"):
                self.fields = Fields(self._say, self._drop)
            with gr.Column(scale=4, min_width=320, elem_id="vg-side"):
                with gr.Column(elem_id="vg-plan-card", elem_classes="vg-card"):
                    with gr.Row(elem_id="vg-action", equal_height=True):
                        self.quote = gr.HTML(elem_id="quote", min_width=140, js_on_load=None)
                        self.generate = gr.Button(
                            self._say("generate"),
                            variant="primary",
                            size="lg",
                            elem_id="generate",
                            min_width=120,
                        )
                    self.notice = gr.HTML(elem_id="notice", js_on_load=None)
                    self.plan = gr.HTML(elem_id="plan", js_on_load=script("plan.js"))
                self.jobs = gr.HTML(elem_id="jobs", js_on_load=panels)
        with gr.Row(elem_id="vg-result", elem_classes="vg-card", equal_height=False):
            self.player = gr.HTML(elem_id="player", js_on_load=None)
            self.details = gr.HTML(elem_id="details", js_on_load=panels)
            self.record = gr.HTML(elem_id="record", js_on_load=None)
        self.history = gr.HTML(elem_id="history", js_on_load=panels)
        self.timer = gr.Timer(IDLE_S)
        self.plan_timer = gr.Timer(PLAN_EVERY_S)

    # -- events

    def wire(self, demo: gr.Blocks) -> None:
        """Connect every control; no event waits for a generation, all of them only read and write the job table."""
        form = self.fields
        wanted, planned = form.wanted, [self.quote, self.plan]
        looks = [self.jobs, self.player, self.details, self.record, self.history, self.timer]
        sized = [form.duration, form.resolution, form.aspect]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        latest: dict[str, Any] = {**quiet, "trigger_mode": "always_last"}

        def replan(event: Any) -> None:
            event.then(self._plan, wanted, planned, **quiet)

        opening = [
            self.head,
            form.first.panel,
            form.last.panel,
            form.model,
            *sized,
            form.mode,
            *planned,
            *looks,
        ]
        replan(demo.load(self._load, None, opening, **quiet))
        demo.unload(self._leave)
        self.timer.tick(self._tick, None, looks, **quiet)
        self.plan_timer.tick(self._plan, wanted, planned, **quiet)
        form.model.input(self._follow, [form.model, *sized], sized, **quiet)
        for control in form.chosen:
            control.change(self._plan, wanted, planned, **latest)
        self.plan.vg_refresh(self._plan, wanted, planned, **latest)
        form.first.wire(replan, **quiet)
        form.last.wire(replan, **quiet)
        self.generate.click(self._generate, wanted, [self.notice, *looks], **quiet)
        for panel in (self.jobs, self.details, self.history):
            panel.vg_open(self._open, None, looks, **quiet)
        self.jobs.vg_cancel(self._cancel, None, [self.notice, *looks], **quiet)
        self.details.vg_delete(self._delete, None, [self.notice, *looks], **quiet)
        self.history.vg_page(self._page, None, looks, **quiet)
        restored = [*form.form, form.first.reference, form.last.reference, form.first.panel, form.last.panel]
        replan(self.details.vg_use(self._use, None, [self.notice, *restored], **quiet))

    async def _load(self, request: gr.Request) -> Updates:
        reader = self._reader(request)
        text, settings = reader.text, self.gateway.settings
        self.screen.open(request.session_hash, reader.job)
        models, names = await asyncio.gather(self.gateway.models(), self.screen.names())
        looks = await self.screen.look(reader, request.session_hash)
        return (
            view.head(text, sandbox=settings.sandbox_url is not None),
            self.fields.first.empty(text),
            self.fields.last.empty(text),
            *fields.offers(text, offered(models), names, settings.router.mode),
            view.quote_loading(text),
            "",
            *looks,
        )

    async def _leave(self, request: gr.Request) -> None:
        self.screen.forget(request.session_hash)

    async def _tick(self, request: gr.Request) -> Updates:
        return await self.screen.look(self._reader(request), request.session_hash)

    async def _follow(
        self, request: gr.Request, model: str, duration: str, resolution: str, aspect: str
    ) -> Updates:
        cards = offered(await self.gateway.models())
        values = {"duration": duration, "resolution": resolution, "aspect": aspect}
        return fields.follow(self._reader(request).text, cards, model, values)

    async def _plan(self, request: gr.Request, first: str, last: str, *values: Any) -> Updates:
        text = self._reader(request).text
        decision: Decision | None = None
        try:
            names = await self.screen.names()
            wish = Form(*values).for_preview().request(first or None, last or None)
            decision = await self.gateway.plan(wish)
            panel = view.plan(text, decision, names, datetime.now(UTC))
        except GatewayError as error:
            panel = view.plan_problem(error.text(text.lang))
        return self.screen.changed(request.session_hash, quote=view.quote(text, decision), plan=panel)

    async def _generate(self, request: gr.Request, first: str, last: str, *values: Any) -> Updates:
        async def act(text: Text) -> str:
            await self.gateway.submit(Form(*values).request(first or None, last or None))
            return text("submitted")

        return await self._acted(act, request)

    async def _cancel(self, event: gr.EventData, request: gr.Request) -> Updates:
        async def act(text: Text) -> str:
            job = await self.gateway.cancel(str(event.id))
            return text("cancelled_now" if job.status.ended else "cancel_asked")

        return await self._acted(act, request)

    async def _delete(self, event: gr.EventData, request: gr.Request) -> Updates:
        async def act(text: Text) -> str:
            await self.gateway.delete(str(event.id))
            self.screen.open(request.session_hash, None)
            return text("deleted")

        return await self._acted(act, request)

    async def _acted(self, act: Callable[[Text], Awaitable[str]], request: gr.Request) -> Updates:
        """Do it, say how it went in the reader's language, and look at the job table again."""
        reader = self._reader(request)
        try:
            said = view.notice(await act(reader.text), kind="done")
        except GatewayError as error:
            said = view.notice(error.text(reader.lang))
        except Exception:
            log.exception("the page could not do what was asked")
            said = view.notice(reader.text("e_unexpected"))
        return said, *await self.screen.look(reader, request.session_hash)

    async def _open(self, event: gr.EventData, request: gr.Request) -> Updates:
        self.screen.open(request.session_hash, str(event.id) or None)
        return await self._tick(request)

    async def _page(self, event: gr.EventData, request: gr.Request) -> Updates:
        self.screen.turn(request.session_hash, older=event.to == "older")
        return await self._tick(request)

    async def _use(self, event: gr.EventData, request: gr.Request) -> Updates:
        """The settings of that job, back in the form; nothing is sent."""
        text = self._reader(request).text
        try:
            job = await self.gateway.get(str(event.id))
            models, names = await asyncio.gather(self.gateway.models(), self.screen.names())
        except GatewayError as error:
            untouched = (gr.skip() for _ in range(len(self.fields.form) + 4))
            return view.notice(error.text(text.lang)), *untouched
        back = restore(job)
        picture = content_url(job.id, variant="thumbnail") if job.poster else None
        first, last = self.fields.first, self.fields.last
        said = (
            text("restored_without", fields=", ".join(back.left_out)) if back.left_out else text("restored")
        )
        return (
            view.notice(said, kind="done"),
            *fields.refill(text, offered(models), names, back.form),
            back.first or "",
            back.last or "",
            first.holding(text, picture) if back.first else first.empty(text),
            last.holding(text, None) if back.last else last.empty(text),
        )
