"""Which links of an answer may be followed."""

import ipaddress

import pytest

from api_providers._target import check, is_public
from router.contract import errors


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("64:ff9b::5db8:d822", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_only_addresses_of_the_whole_internet_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x",
        "https://localhost/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/x",
        "https://0x7f.1/x",
        "http://93.184.216.34/x",
        "file:///etc/passwd",
        "https://user:pw@93.184.216.34/x",
        "https://[bad/x",
        "https://93.184.216.34:99999/x",
        "/relative",
        "",
    ],
)
async def test_a_private_or_strange_link_is_refused(url: str) -> None:
    with pytest.raises(errors.UnexpectedResponse):
        await check(url, twin=None, backend="acme")


async def test_a_public_link_is_pinned_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    target = await check("https://93.184.216.34/x?y=1", twin=None, backend="acme")
    assert target.addresses == ("93.184.216.34",)


async def test_in_the_sandbox_only_the_twin_is_called() -> None:
    twin = ("127.0.0.1", 8787)
    assert (await check("http://127.0.0.1:8787/x", twin=twin, backend="acme")).addresses == ()
    for url in ("http://127.0.0.1:8788/x", "http://127.0.0.2:8787/x", "https://93.184.216.34/x"):
        with pytest.raises(errors.UnexpectedResponse):
            await check(url, twin=twin, backend="acme")
