"""Callers' URLs against a real loopback server: nothing private is reached, nothing too large is kept."""

import ipaddress
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from router.contract.card import Asset
from router.contract.errors import InvalidRequest
from router.media import Downloader, MediaStore
from router.media.download import Address, public
from tests.router.media_files import bomb, png


def leftovers(store: MediaStore) -> list[Path]:
    return list((store.root / "tmp").iterdir())


Reply = tuple[int, dict[str, str], bytes]


class _Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages: dict[str, Reply], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("0.0.0.0", 0), _Handler)
        self.pages = pages
        self.hosts: list[str] = []
        self.tls = tls

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]
        sock, address = super().get_request()
        return (self.tls.wrap_socket(sock, server_side=True) if self.tls else sock), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of these tests."""


class _Handler(BaseHTTPRequestHandler):
    server: _Site

    def do_GET(self) -> None:
        self.server.hosts.append(self.headers["Host"])
        status, headers, body = self.server.pages.get(self.path.partition("?")[0], (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[Callable[..., _Site]]:
    started: list[_Site] = []

    def start(pages: dict[str, Reply], tls: ssl.SSLContext | None = None) -> _Site:
        server = _Site(pages, tls)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def resolver(**names: list[str]) -> Callable[[str, int], Awaitable[tuple[Address, ...]]]:
    """Answers one list per look-up; a second look-up gets the second entry, as in DNS rebinding."""
    left = {name.replace("_", "."): list(addresses) for name, addresses in names.items()}

    async def resolve(host: str, port: int) -> tuple[Address, ...]:
        if host not in left:
            raise OSError("no such host")
        answers = left[host]
        return (ipaddress.ip_address(answers.pop(0) if len(answers) > 1 else answers[0]),)

    return resolve


def only_first(address: Address, allow_private: bool) -> bool:
    """127.0.0.1 plays the public internet, everything else is private."""
    return str(address) == "127.0.0.1"


def store_with(root: Path, downloader: Downloader) -> MediaStore:
    return MediaStore(root, min_free_bytes=0, max_input_bytes=200_000, downloader=downloader)


async def test_a_picture_is_fetched_from_a_public_address_over_tls(
    tmp_path: Path, site: Callable[..., _Site]
) -> None:
    ca = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("pictures.example").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    ca.configure_trust(client_tls)
    data = png()
    server = site({"/a.png": (200, {"Content-Length": str(len(data))}, data)}, server_tls)
    look_up = resolver(pictures_example=["127.0.0.1", "127.0.0.66"])
    store = store_with(tmp_path, Downloader(resolve=look_up, permits=only_first, tls=client_tls))
    await store.open()
    asset = await store.take_reference(f"https://pictures.example:{server.server_port}/a.png")
    assert store.path(asset).read_bytes() == data
    # The name was looked up once and the checked address dialled, with the name's own certificate and Host.
    assert server.hosts == [f"pictures.example:{server.server_port}"]
    assert await look_up("pictures.example", 443) == (ipaddress.ip_address("127.0.0.66"),)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/a.png",
        "https://localhost/a.png",
        "https://[::1]/a.png",
        "https://[::ffff:127.0.0.1]/a.png",
        "https://10.0.0.5/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/a.png",
        "https://0/a.png",
    ],
)
async def test_a_url_to_a_private_address_is_refused(tmp_path: Path, url: str) -> None:
    store = MediaStore(tmp_path, min_free_bytes=0)
    await store.open()
    with pytest.raises(InvalidRequest, match=r"private or local address|cannot be found"):
        await store.take_reference(url)
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ("address", "closed", "opened"),
    [
        ("93.184.216.34", True, True),
        ("2606:4700::1111", True, True),
        ("127.0.0.1", False, True),
        ("192.168.1.1", False, True),
        ("100.64.0.1", False, False),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("224.0.0.1", False, False),
        ("0.0.0.0", False, False),
        ("fd00::1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a00:1", False, True),
        ("2002:a00:1::", False, True),
    ],
)
def test_which_addresses_may_be_reached(address: str, closed: bool, opened: bool) -> None:
    assert public(ipaddress.ip_address(address), False) is closed
    assert public(ipaddress.ip_address(address), True) is opened


@pytest.fixture
async def fetching(tmp_path: Path) -> MediaStore:
    look_up = resolver(public_example=["127.0.0.1"], inside_example=["127.0.0.2"])
    store = store_with(tmp_path / "fetching", Downloader(resolve=look_up, permits=only_first))
    await store.open()
    return store


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((302, {"Location": "http://inside.example:{port}/a.png"}, b""), "private or local"),
        ((302, {"Location": "http://nowhere.example/a.png"}, b""), "cannot be found"),
        ((302, {"Location": "file:///etc/passwd"}, b""), "not a valid URL|must be an https"),
        ((302, {"Location": "http://[::1/"}, b""), "broke off the connection"),
        ((302, {"Location": "/page"}, b""), "redirected more than 3 times"),
        ((404, {}, b"no"), "status 404"),
        ((200, {"Content-Length": "200001"}, b"x"), "too large"),
        ((200, {}, bytes(300_000)), "too large"),
        ((200, {"Content-Encoding": "gzip"}, b"x"), "compressed"),
        ((200, {"Content-Length": "5000"}, b"short"), "broke off"),
        ((200, {}, b"<html>"), "not an image"),
        ((200, {}, bomb(9_000, 9_000)), "64 megapixels"),
    ],
)
async def test_a_site_that_misbehaves_is_refused_and_leaves_nothing(
    fetching: MediaStore, site: Callable[..., _Site], reply: Reply, message: str
) -> None:
    pages: dict[str, Reply] = {}
    server = site(pages)
    status, headers, body = reply
    pages["/page"] = (status, {k: v.format(port=server.server_port) for k, v in headers.items()}, body)
    pages["/a.png"] = (200, {}, png())
    with pytest.raises(InvalidRequest, match=message) as caught:
        await fetching.take_reference(
            f"http://public.example:{server.server_port}/page?signature=secret", allow_private=True
        )
    assert "secret" not in caught.value.message.en + caught.value.message.ja
    assert leftovers(fetching) == []
    assert all(host.startswith("public.example") for host in server.hosts)


async def test_a_redirect_to_a_permitted_place_is_followed(
    fetching: MediaStore, site: Callable[..., _Site]
) -> None:
    data = png()
    server = site({"/old": (301, {"Location": "/new"}, b""), "/new": (200, {}, data)})
    asset = await fetching.take_reference(
        f"http://public.example:{server.server_port}/old", allow_private=True
    )
    assert isinstance(asset, Asset) and fetching.path(asset).read_bytes() == data


async def test_plain_http_and_passwords_in_a_url_are_refused(fetching: MediaStore) -> None:
    with pytest.raises(InvalidRequest, match="https://"):
        await fetching.take_reference("http://public.example/a.png")
    with pytest.raises(InvalidRequest, match="user name or password"):
        await fetching.take_reference("https://me:secret@public.example/a.png")


async def test_a_site_that_does_not_answer_is_named(fetching: MediaStore, site: Callable[..., _Site]) -> None:
    server = site({})
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(InvalidRequest, match=r"public\.example does not answer"):
        await fetching.take_reference(f"http://public.example:{port}/a.png", allow_private=True)
