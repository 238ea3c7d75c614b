"""Builds the page from a Gateway and mounts it, with everything switched off in Gradio that we do not want."""

import os
from importlib.resources import files

from fastapi import FastAPI
from starlette.routing import Mount

from router.gateway import Gateway
from ui._gradio import gr
from ui.create import Create
from ui.shell import Shell
from ui.text import LANGS, catalogue
from ui.theme import theme

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S


def _i18n() -> gr.I18n:
    return gr.I18n(**{lang: dict(catalogue(lang)) for lang in LANGS})


def build(gateway: Gateway) -> gr.Blocks:
    """The page. Its uploads lie in the data folder until the gateway has taken them in; Gradio empties it daily."""
    uploads = gateway.settings.home / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    demo = gr.Blocks(title="Understudy", analytics_enabled=False, delete_cache=(_HOUR_S, _DAY_S))
    demo.state_session_capacity = 1000
    with demo:
        page = Create(gateway, _i18n())
        page.lay_out()
        page.wire(demo)
    return demo


def mount(app: FastAPI, gateway: Gateway) -> FastAPI:
    """Put the page at `/`, after every other route of `app`; those win."""
    demo = build(gateway)
    demo.queue(max_size=500, api_open=False, default_concurrency_limit=16)

    gr.mount_gradio_app(
        app,
        demo,
        path="/",
        theme=theme(),
        css=(files("ui") / "style.css").read_text(encoding="utf-8"),
        i18n=_i18n(),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        max_file_size=f"{gateway.settings.server.max_upload_mb}mb",
        allowed_paths=[],
        show_error=False,
        pwa=False,
        app_kwargs={"openapi_url": None},
    )
    page = next(route for route in reversed(app.routes) if isinstance(route, Mount))
    page.app = Shell(page.app)
    return app
