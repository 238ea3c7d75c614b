"""The door over a real gateway: the test pattern of the local backend, made through the official SDK."""

from pathlib import Path

import pytest

from router.gateway import EngineRole, Gateway
from router.settings import Settings
from tests.router.server.conftest import running, sdk


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
async def test_the_sdk_gets_a_clip_from_the_test_pattern(tmp_path: Path) -> None:
    environ = {"UNDERSTUDY_HOME": str(tmp_path), "UNDERSTUDY_LOCAL_DEMO_MODEL": "true"}
    gateway = Gateway.open(Settings.load(environ), EngineRole.SERVE)
    async with running(gateway) as url, sdk(url) as client:
        video = await client.videos.create_and_poll(
            prompt="a test pattern", model="testcard/bars", poll_interval_ms=100
        )
        assert (video.status, video.error) == ("completed", None), video
        clip = (await client.videos.download_content(video.id)).read()
        assert clip[4:8] == b"ftyp"
        assert [job.id async for job in client.videos.list()] == [video.id]
        await client.videos.delete(video.id)
        assert (await client.videos.list()).data == []
