"""The phase rules of a call that spends, the error table, and where credentials may go."""

import asyncio
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from api_providers import _http
from api_providers._http import HttpProvider
from api_providers._target import Target
from router.contract import errors
from router.contract.backend import BackendConfig, Output
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend
from tests.committing import committing
from tests.scripted_server import CUT, Reply, ScriptedServer, reply


class Acme(HttpProvider):
    base_url = "https://api.acme.example/v1"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def outcome(make: MakeBackend, answer: Reply, *, spends: bool) -> type[Exception] | None:
    """The kind of error that this answer to a POST becomes; also that exactly one request arrived."""
    async with ScriptedServer([answer]) as server:
        with committing() as commits:
            try:
                await make(Acme, server.url).call("POST", "tasks", spends=spends, json={"prompt": "x"})
                return None
            except errors.GatewayError as error:
                assert error.backend == "acme"
                return type(error)
            finally:
                assert len(server.seen) == 1, "never sent a second time"
                assert len(commits) == (1 if spends else 0)


@pytest.mark.parametrize(
    ("answer", "when_spending", "when_looking"),
    [
        (reply(200, {"id": 1}), None, None),
        (CUT, errors.OutcomeUnknown, errors.Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Le", errors.OutcomeUnknown, errors.Unavailable),
        (reply(200, b'{"id": ', length=99), errors.OutcomeUnknown, errors.Unavailable),
        (b"no http at all\r\n\r\n", errors.OutcomeUnknown, errors.Unavailable),
        (reply(200, b"<html>"), errors.OutcomeUnknown, errors.UnexpectedResponse),
        (reply(200, b"[" * 100_000), errors.OutcomeUnknown, errors.UnexpectedResponse),
        (
            reply(200, b" " * (HttpProvider.answer_max_bytes + 1)),
            errors.OutcomeUnknown,
            errors.UnexpectedResponse,
        ),
        (reply(200, b"xx", {"Content-Encoding": "gzip"}), errors.OutcomeUnknown, errors.Unavailable),
        (reply(204), errors.OutcomeUnknown, None),
        (reply(302, b"", {"Location": "/x"}), errors.OutcomeUnknown, errors.UnexpectedResponse),
        (reply(400, {"error": "bad"}), errors.InvalidRequest, errors.InvalidRequest),
        (reply(401, {"error": "bad"}), errors.AuthenticationFailed, errors.AuthenticationFailed),
        (reply(402, {"error": "bad"}), errors.QuotaExhausted, errors.QuotaExhausted),
        (reply(403, {"error": "bad"}), errors.AuthenticationFailed, errors.AuthenticationFailed),
        (reply(404, {"error": "bad"}), errors.BackendError, errors.BackendError),
        (reply(408, {"error": "bad"}), errors.OutcomeUnknown, errors.BackendError),
        (reply(413, b"too large"), errors.InvalidRequest, errors.InvalidRequest),
        (reply(422, {"error": "bad"}), errors.InvalidRequest, errors.InvalidRequest),
        (reply(429, {"error": "bad"}), errors.RateLimited, errors.RateLimited),
        (reply(500, {"error": "bad"}), errors.Unavailable, errors.Unavailable),
        (reply(502, b"<html>"), errors.OutcomeUnknown, errors.Unavailable),
        (reply(503, b"<html>"), errors.Unavailable, errors.Unavailable),
        (reply(504, b"<html>"), errors.OutcomeUnknown, errors.Unavailable),
        (reply(520, b""), errors.OutcomeUnknown, errors.Unavailable),
    ],
)
async def test_an_answer_means_another_thing_when_money_is_at_stake(
    make: MakeBackend,
    answer: bytes,
    when_spending: type[Exception] | None,
    when_looking: type[Exception] | None,
) -> None:
    assert await outcome(make, answer, spends=True) is when_spending
    assert await outcome(make, answer, spends=False) is when_looking


async def test_a_refused_connection_is_unavailable_and_bought_nothing(make: MakeBackend) -> None:
    with committing() as commits, pytest.raises(errors.Unavailable, match="nothing was sent"):
        await make(Acme, f"http://127.0.0.1:{free_port()}").call("POST", "tasks", spends=True, json={})
    assert len(commits) == 1


async def test_a_host_that_does_not_exist_is_unavailable(make: MakeBackend) -> None:
    with pytest.raises(errors.Unavailable):
        await make(Acme, "http://acme.invalid").call("POST", "tasks", spends=True, json={})


async def test_an_error_of_the_commit_stops_the_call(make: MakeBackend) -> None:
    def refuse() -> None:
        raise errors.Conflict("cancelled meanwhile")

    async with ScriptedServer([reply(200, {"id": 1})]) as server:
        with committing(refuse), pytest.raises(errors.Conflict):
            await make(Acme, server.url).call("POST", "tasks", spends=True, json={})
        assert server.seen == []


async def test_what_json_cannot_say_is_refused_before_the_commit(make: MakeBackend) -> None:
    for body in ({"prompt": "\ud800"}, {"guidance": float("nan")}, {"x": object()}):
        with committing() as commits, pytest.raises(errors.InvalidRequest):
            await make(Acme).call("POST", "tasks", spends=True, json=body)
        assert commits == []


@pytest.mark.parametrize("key", [None, "", "  ", "with\nnewline", "ключ"])
async def test_a_key_that_cannot_be_sent_is_said_without_showing_it(
    make: MakeBackend, key: str | None
) -> None:
    with committing() as commits, pytest.raises(errors.AuthenticationFailed) as caught:
        await make(Acme, key=key).call("POST", "tasks", spends=True, json={})
    assert commits == []
    assert not key or not key.strip() or key not in str(caught.value)


async def test_retry_after_travels_with_the_error_and_is_capped(make: MakeBackend) -> None:
    for status, error in ((429, errors.RateLimited), (503, errors.Unavailable)):
        answer = reply(status, b"", {"Retry-After": "Wed, 01 Jan 3000 00:00:00 GMT"})
        async with ScriptedServer([answer]) as server:
            with pytest.raises(error) as caught:
                await make(Acme, server.url).call("GET", "tasks/1")
        assert caught.value.retry_after == 86_400


async def test_the_providers_words_are_kept_without_the_key(make: MakeBackend) -> None:
    body = {"error": {"message": f"key {SECRET} at https://x.example/a?sig=1 is bad"}}
    async with ScriptedServer([reply(401, body)]) as server:
        with pytest.raises(errors.AuthenticationFailed) as caught:
            await make(Acme, server.url).call("GET", "me")
    assert "https://x.example/a?[signed] is bad" in caught.value.text("en")
    for text in (caught.value.text("ja"), caught.value.text("en"), caught.value.detail or ""):
        assert SECRET not in text
        assert "sig=1" not in text


async def test_the_call_that_spends_never_uses_a_kept_connection(make: MakeBackend) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        backend = make(Acme, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await backend.call("GET", "a")
        await backend.call("GET", "b")
        assert connections == 1
        await backend.call("POST", "c", spends=True)
        await backend.call("POST", "d", spends=True)
        assert connections == 3
        await backend.aclose()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.acme.example/v1/tasks/1", "/tasks/1"),
        ("https://api.acme.example/v1/tasks/1?sig=x", "/tasks/1"),
        ("https://api.acme.example/v2/tasks/1", None),
        ("https://api.acme.example/v1/../v2/x", None),
        ("https://api.acme.example:444/v1/x", None),
        ("http://api.acme.example/v1/x", None),
        ("https://api.acme.example.evil.example/v1/x", None),
        ("https://api.acme.example@evil.example/v1/x", None),
        ("https://u@api.acme.example/v1/x", None),
        ("https://evil.example/v1/x", None),
        ("https://[broken/v1/x", None),
    ],
)
async def test_only_urls_of_our_own_origin_are_ours(make: MakeBackend, url: str, path: str | None) -> None:
    assert make(Acme).own_path(url) == path


@pytest.mark.parametrize(
    "base", ["", "acme.example", "ftp://acme.example", "https://", "https://a b/", "http://[bad"]
)
def test_a_base_url_that_is_none_is_said_at_once(tmp_path: Path, base: str) -> None:
    config = BackendConfig(
        name="acme", cards={}, media=FolderMedia(tmp_path), scratch=tmp_path, base_url=base or " "
    )
    with pytest.raises(errors.ServerTrouble, match="base_url"):
        Acme(config)


async def test_parameters_are_quoted_and_no_signature_is_logged(
    make: MakeBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with ScriptedServer([reply(200, {})]) as server:
        await make(Acme, server.url).call("GET", "tasks", params={"q": "a b&c"})
        assert server.seen[0].target == "/tasks?q=a+b%26c"
        await fetched(make, server, tmp_path / "c")
    assert "sig=1" not in caplog.text
    assert SECRET not in caplog.text


async def test_an_input_that_is_gone_is_said_before_anything_is_bought(
    make: MakeBackend, media: FolderMedia
) -> None:
    picture = media.picture()
    media.path(picture.asset).unlink()
    with pytest.raises(errors.ServerTrouble, match="media store"):
        await make(Acme).place(picture)


async def fetched(make: MakeBackend, server: ScriptedServer, to: Path, **options: Any) -> bytes:
    await make(Acme, server.url, **options).fetch(Output(url=f"{server.url}/clip.mp4?sig=1"), to)
    return await asyncio.to_thread(to.read_bytes)


CLIP = bytes(range(256)) * 16
TAGGED = {"ETag": '"v1"'}


async def test_a_download_carries_no_credentials(make: MakeBackend, tmp_path: Path) -> None:
    async with ScriptedServer([reply(200, CLIP)]) as server:
        assert await fetched(make, server, tmp_path / "c") == CLIP
        assert "authorization" not in server.seen[0].headers
        assert server.seen[0].target == "/clip.mp4?sig=1"


async def test_a_cut_download_goes_on_where_it_stopped(make: MakeBackend, tmp_path: Path) -> None:
    part = {"Content-Range": f"bytes 1000-{len(CLIP) - 1}/{len(CLIP)}", **TAGGED}
    replies: list[Reply] = [reply(200, CLIP[:1000], TAGGED, length=len(CLIP)), reply(206, CLIP[1000:], part)]
    async with ScriptedServer(replies) as server:
        assert await fetched(make, server, tmp_path / "c") == CLIP
        assert server.seen[1].headers["range"] == "bytes=1000-"
        assert server.seen[1].headers["if-range"] == '"v1"'


async def test_a_server_without_ranges_is_asked_from_the_start(make: MakeBackend, tmp_path: Path) -> None:
    replies: list[Reply] = [reply(200, CLIP[:1000], length=len(CLIP)), CUT, reply(200, CLIP)]
    async with ScriptedServer(replies) as server:
        assert await fetched(make, server, tmp_path / "c") == CLIP
        assert all("range" not in seen.headers for seen in server.seen)


@pytest.mark.parametrize(
    "second",
    [
        reply(206, CLIP[500:], {"Content-Range": f"bytes 500-{len(CLIP) - 1}/{len(CLIP)}"}),
        reply(206, CLIP[1000:], {"Content-Range": f"bytes 1000-{len(CLIP)}/{len(CLIP) + 1}"}),
        reply(206, CLIP[1000:], {"Content-Range": "nonsense"}),
        reply(416, b""),
        reply(206, CLIP[1000:2000], {"Content-Range": f"bytes 1000-1999/{len(CLIP)}"}),
    ],
)
async def test_halves_that_do_not_fit_are_never_joined(
    make: MakeBackend, tmp_path: Path, second: bytes
) -> None:
    first = reply(200, CLIP[:1000], TAGGED, length=len(CLIP))
    async with ScriptedServer([first, second, reply(200, CLIP)]) as server:
        assert await fetched(make, server, tmp_path / "c") == CLIP


async def test_a_download_that_keeps_breaking_is_tried_three_times(make: MakeBackend, tmp_path: Path) -> None:
    async with ScriptedServer([reply(200, CLIP[:10], length=len(CLIP))]) as server:
        with pytest.raises(errors.Unavailable):
            await fetched(make, server, tmp_path / "c")
        assert len(server.seen) == 3
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(403), errors.LinkExpired),
        (reply(404), errors.LinkExpired),
        (reply(410), errors.LinkExpired),
        (reply(429, b"", {"Retry-After": "9"}), errors.Unavailable),
        (reply(500), errors.Unavailable),
        (reply(200, bytes(1_000_001)), errors.OutputInvalid),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_000_001), errors.OutputInvalid),
        (reply(302, b"", {"Location": "/again"}), errors.UnexpectedResponse),
        (reply(302, b"", {"Location": "http://169.254.169.254/latest"}), errors.UnexpectedResponse),
        (reply(302, b"", {"Location": "http://127.0.0.2/x"}), errors.UnexpectedResponse),
        (reply(302, b"", {"Location": "file:///etc/passwd"}), errors.UnexpectedResponse),
    ],
)
async def test_a_bad_download_has_its_name_and_leaves_no_file(
    make: MakeBackend, tmp_path: Path, answer: bytes, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([answer]) as server:
        with pytest.raises(error) as caught:
            await fetched(make, server, tmp_path / "c", max_download_mb=1)
    assert caught.value.retry_after == (9 if b"Retry-After" in answer else None)
    assert not (tmp_path / "c").exists()


async def test_a_redirect_within_the_twin_is_followed(make: MakeBackend, tmp_path: Path) -> None:
    replies: list[Reply] = [reply(302, b"", {"Location": "/other?sig=2"}), reply(200, CLIP)]
    async with ScriptedServer(replies) as server:
        assert await fetched(make, server, tmp_path / "c") == CLIP
        assert server.seen[1].target == "/other?sig=2"


async def test_outside_the_sandbox_a_loopback_link_is_refused(make: MakeBackend, tmp_path: Path) -> None:
    async with ScriptedServer([reply(200, CLIP)]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await fetched(make, server, tmp_path / "c", sandbox=False)
        assert server.seen == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
async def test_a_full_disk_is_said_and_leaves_no_file(make: MakeBackend, tmp_path: Path) -> None:
    (tmp_path / "c").symlink_to("/dev/full")
    async with ScriptedServer([reply(200, CLIP * 100)]) as server:
        with pytest.raises(errors.StorageFull):
            await fetched(make, server, tmp_path / "c")
    assert not (tmp_path / "c").is_symlink()


class Pinned(Acme):
    """Its links are checked to lie at this machine, whatever the name says."""

    async def _check(self, url: str) -> Target:
        return Target(url, "cdn.example", ("127.0.0.1",))


async def test_a_pinned_connection_still_wants_the_certificate_of_the_host(
    make: MakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    _http._tls_context.cache_clear()
    try:
        for name, accepted in (("cdn.example", True), ("other.example", False)):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name).configure_cert(context)
            async with ScriptedServer([reply(200, CLIP)], tls=context) as server:
                link = Output(url=f"https://cdn.example:{server.port}/c?sig=1")
                if accepted:
                    await make(Pinned).fetch(link, tmp_path / "c")
                    assert (await asyncio.to_thread((tmp_path / "c").read_bytes)) == CLIP
                    assert server.seen[0].headers["host"] == f"cdn.example:{server.port}"
                else:
                    with pytest.raises(errors.Unavailable):
                        await make(Pinned).fetch(link, tmp_path / "d")
                    assert server.seen == []
    finally:
        _http._tls_context.cache_clear()
