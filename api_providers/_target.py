"""Whether a URL that came in an answer may be called, and at which addresses exactly."""

import asyncio
import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from router.contract import errors
from router.contract.words import words

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Target(NamedTuple):
    """A URL that was checked. Connect to one of `addresses` and nowhere else; empty: the name may be looked up."""

    url: str
    host: str
    addresses: tuple[str, ...]


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the whole internet means the same machine by it; an IPv4 address wrapped in IPv6 counts as itself."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def check(url: str, *, twin: tuple[str, int | None] | None, backend: str) -> Target:
    """Check scheme, host and every address of it; raises UnexpectedResponse, or Unavailable when it has no address.

    `twin`: host and port of the sandbox, then the only place that may be called.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _refused(backend, "not a URL", "URL として読めません") from None
    if twin is not None:
        if parts.scheme not in {"http", "https"} or (host, port) != twin:
            raise _refused(backend, "not the sandbox", "サンドボックス以外を指しています")
        return Target(url, host, ())
    if parts.scheme != "https" or not host:
        raise _refused(backend, "not https", "https ではありません")
    if parts.username or parts.password:
        raise _refused(backend, "it carries a user name", "ユーザー名が含まれています")
    addresses = await _addresses(host, port or 443, backend)
    if not all(is_public(ipaddress.ip_address(address)) for address in addresses):
        raise _refused(backend, "it points to a private address", "プライベートアドレスを指しています")
    # A proxy looks the name up itself; then the check above is all that can be done here.
    proxied = "https" in getproxies() and not proxy_bypass(host)
    return Target(url, host, () if proxied else addresses)


async def _addresses(host: str, port: int, backend: str) -> tuple[str, ...]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise errors.Unavailable(
            words(
                "the host of a link in its answer cannot be found",
                "応答に含まれるリンクのホストが見つかりません。",
            ),
            backend=backend,
        ) from None
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))[:8]


def _refused(backend: str, en: str, ja: str) -> errors.UnexpectedResponse:
    return errors.UnexpectedResponse(
        words(
            f"gave a link that is not followed: {en}. The clip stays paid; tell the provider if this persists",
            f"たどれないリンクが返されました: {ja}。続く場合はプロバイダーにお問い合わせください。",
        ),
        backend=backend,
    )
