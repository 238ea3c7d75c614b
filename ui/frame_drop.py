"""One image drop of the form: an upload is checked by the gateway at once, and only its reference is kept."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote as url_quote

from router.contract.errors import GatewayError, InvalidRequest
from router.gateway import Gateway
from ui import view
from ui._gradio import gr
from ui.form import both
from ui.reader import Reader
from ui.scripts import script
from ui.text import Text


class FrameDrop:
    """A panel and the hidden field that says which image it holds.

    The browser carries the reference, so that a restart of the server cannot turn image-to-video into text-to-video.
    """

    def __init__(
        self, gateway: Gateway, key: str, elem_id: str, reader: Callable[[gr.Request], Reader]
    ) -> None:
        """`key` names the text of the heading."""
        self.gateway = gateway
        self.key = key
        self._reader = reader
        self.panel = gr.HTML(elem_id=elem_id, js_on_load=script("drop.js"), min_width=140)
        self.reference = gr.Textbox(visible=False)

    def wire(self, after: Callable[[Any], None], **how: Any) -> None:
        """`after` is given each event, to chain what follows a change."""
        for event, handler in (
            (self.panel.vg_taken, self._taken),
            (self.panel.vg_refused, self._refused),
            (self.panel.vg_cleared, self._cleared),
        ):
            after(event(handler, None, [self.reference, self.panel], **how))

    def empty(self, text: Text, problem: str = "") -> str:
        """The panel without an image."""
        return view.drop(text, text(self.key), problem=problem)

    def holding(self, text: Text, picture: str | None) -> str:
        """The panel with the image of an earlier clip."""
        return view.drop(text, text(self.key), picture=picture, note=text("image_from_clip"))

    async def _taken(self, event: gr.EventData, request: gr.Request) -> tuple[str, str]:
        text = self._reader(request).text
        try:
            path = await asyncio.to_thread(_uploaded, Path(str(event.path)))
            asset = await self.gateway.take_upload(path)
        except GatewayError as error:
            return "", self.empty(text, error.text(text.lang))
        picture = f"gradio_api/file={url_quote(str(path))}"
        return f"asset:{asset.id}", view.drop(text, text(self.key), picture=picture)

    async def _refused(self, request: gr.Request) -> tuple[str, str]:
        text = self._reader(request).text
        return "", self.empty(
            text, text("image_refused", megabytes=self.gateway.settings.server.max_upload_mb)
        )

    async def _cleared(self, request: gr.Request) -> tuple[str, str]:
        return "", self.empty(self._reader(request).text)


def _uploaded(path: Path) -> Path:
    """The file, if it really is one of this page's uploads: the name comes from the browser."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    real = path.resolve()
    if not real.is_relative_to(folder) or not real.is_file():
        raise InvalidRequest(both("e_gone"), param="frame_images")
    return real
