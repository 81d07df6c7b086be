"""Webhooks' rules: which URLs and addresses one may name, and the schedule of tries."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from cosygate import errors
from cosygate.flows.webhooks import Callbacks
from cosygate.model.addresses import Reach, literal
from cosygate.model.options import parse_options
from cosygate.model.webhook import Destination, Schedule
from tests.support.clock import MovedClock, SeededRandomness

URL = "https://receiver.example/hooks"

# --- addresses ---------------------------------------------------------------------------------------------------

# Everything that one must never be made to reach, in the spellings that C libraries, browsers and attackers know.
INWARD = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0x7F.0.0.0x1", "0177.0.0.1",
    "017700000001", "127.0.0.1.", "0", "0.0.0.0", "0x0", "00000000000", "10.0.0.1", "10.1", "167772161",
    "0xa.1", "012.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.1", "0xC0A80001",
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "0xA9.254.0251.254", "169.254.43518",
    "169.254.0.1", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "192.88.99.1", "168.63.129.16", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::ffff:10.0.0.1]", "[::ffff:0.0.0.0]",
    "[::ffff:0:127.0.0.1]", "[fe80::1]", "[febf::1]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]",
    "[fd12:3456::1]", "[ff02::1]", "[2001:db8::1]", "[100::1]", "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]", "[64:ff9b:1::1]", "[64:ff9b:1::10.0.0.1]", "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]", "[2002:0a00:0001::1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[2001:0:7f00:1::1]", "[2606:2800:220:1::5efe:10.0.0.1]", "[2606:2800:220:1:200:5efe:7f00:1]", "[3fff::1]",
    "[4000::1]",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "134744072", "0x08080808", "010.010.010.010", "1.1.1.1", "172.32.0.1", "192.169.0.1",
    "100.128.0.1", "168.63.129.17", "[2606:4700:4700::1111]", "[2a00:1450:4001::1]", "[::ffff:8.8.8.8]",
    "[64:ff9b::8.8.8.8]", "[2002:808:808::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", INWARD)
def test_an_address_that_leads_inward_is_refused_however_it_is_spelt(host: str) -> None:
    address = literal(host)
    assert address is not None
    assert not Reach().permits(address)
    with pytest.raises(errors.OptionInvalid):
        check(f"https://{host}/")


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_address_may_be_reached(host: str) -> None:
    address = literal(host)
    assert address is not None and Reach().permits(address)


@pytest.mark.parametrize("host", [h for h in INWARD if not h.startswith("[")])
def test_the_spelling_means_what_the_resolver_takes_it_for(host: str) -> None:
    found = socket.getaddrinfo(host.removesuffix("."), 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    assert ipaddress.ip_address(found[0][4][0]) == literal(host)


def test_what_the_operator_allows_may_be_reached_and_nothing_beside_it() -> None:
    reach = Reach.parse("10.1.0.0/16, ::1 fd00::/8")
    for host, may in [
        ("10.1.2.3", True), ("10.2.0.1", False), ("[::ffff:10.1.2.3]", True), ("[::ffff:10.2.0.1]", False),
        ("[::1]", True), ("127.0.0.1", False), ("[fd00::5]", True), ("[fe80::1]", False), ("[2002:a01:203::1]", True),
    ]:  # fmt: skip
        address = literal(host)
        assert address is not None and reach.permits(address) is may, host
    for wrong in ("10.0.0.1/8", "receiver.example", "300.1.1.1"):
        with pytest.raises(ValueError, match=r"\S"):
            Reach.parse(wrong)


# --- URLs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        (URL, Destination(True, "receiver.example", 443, "/hooks")),
        ("https://Receiver.Example.", Destination(True, "receiver.example", 443, "/")),
        ("https://r.example:8443?x=1/2?3", Destination(True, "r.example", 8443, "/?x=1/2?3")),
        ("http://134744072/a%20b", Destination(False, "8.8.8.8", 80, "/a%20b")),
        ("https://[2606:4700::1111]:1/", Destination(True, "2606:4700::1111", 1, "/")),
        ("https://xn--e1afmkfd.example/", Destination(True, "xn--e1afmkfd.example", 443, "/")),
        ("https://under_score.example/", Destination(True, "under_score.example", 443, "/")),
    ],
)
def test_a_url_is_read_in_one_way(url: str, destination: Destination) -> None:
    assert Destination.parse(url) == destination


WRONG = [
    "", "/hooks", "receiver.example", "//receiver.example/", "ftp://receiver.example/", "file:///etc/passwd",
    "HTTPS://receiver.example/", "https:receiver.example", "https:///hooks", "https://", "https://:443/",
    "https://user@receiver.example/", "https://user:pw@receiver.example/", "https://receiver.example@10.0.0.1/",
    "https://receiver.example/#part", "https://receiver.example#@10.0.0.1/", "https://receiver.example\\@10.0.0.1/",
    "https://receiver.example:0/", "https://receiver.example:65536/", "https://receiver.example:x/", "https://r.example:/",
    "https://receiver.example/a b", "https://receiver.example/\t", "https://receiver.example/\r\nHost: x",
    "https://receiver.example\n.evil.example/", " https://receiver.example/", "https://receiver.example/ ",
    "https://recéiver.example/", "https://①②⑦.0.0.1/", "https://127。0。0。1/", "https://receiver%2eexample/",
    "https://%31%32%37.0.0.1/", "https://-r.example/", "https://r-.example/", "https://r..example/", "https://.example/",
    "https://1.2.3.4.5/", "https://256.1.1.1/", "https://0x/x.example:1:2/", "https://[::1/", "https://[fe80::1%25eth0]/",
    "https://[::1]x/", "https://[1.2.3.4]/", "https://[:::]/", "https://receiver.example/" + "a" * 2048,
    "https://" + "a" * 64 + ".example/", "https://receiver.example/\x00", "javascript:alert(1)",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG)
def test_a_url_that_could_be_read_in_two_ways_is_refused_by_name(url: str) -> None:
    with pytest.raises(errors.OptionInvalid, match="callback_url") as caught:
        parse_options({"callback_url": url})
    assert caught.value.extra == {"option": "callback_url"}


def check(url: str, reach: Reach | None = None, *, any_scheme: bool = False, secrets: tuple[str, ...] = ("s",)) -> None:
    class Known:
        async def secrets(self, *_: object) -> tuple[str, ...]:
            return secrets

    known: Any = Known()
    door = Callbacks(known, reach or Reach(), MovedClock(), any_scheme=any_scheme).check("acme", url)
    with pytest.raises(StopIteration):
        door.send(None)


def test_the_door_asks_for_https_and_a_secret() -> None:
    check(URL)
    check("http://receiver.example/", any_scheme=True)
    check("https://10.1.2.3/", Reach.parse("10.0.0.0/8"))
    check("https://localhost/")  # a name: where it leads is looked at when something is sent
    with pytest.raises(errors.OptionInvalid, match="https"):
        check("http://receiver.example/")
    with pytest.raises(errors.WebhookSecretMissing):
        check(URL, secrets=())


# --- the schedule ------------------------------------------------------------------------------------------------


def test_a_schedule_has_a_try_more_than_steps_each_a_tenth_up_or_down() -> None:
    schedule, chance = Schedule.parse("5 300, 1800"), SeededRandomness()
    for attempt, step in enumerate((5, 300, 1800), start=1):
        waits = [schedule.delay_s(attempt, 0.0, chance) for _ in range(200)]
        assert all(wait is not None and step * 0.9 <= wait <= step * 1.1 for wait in waits)
        assert len(set(waits)) > 100
    assert schedule.delay_s(4, 0.0, chance) is None
    assert schedule.delay_s(11, 0.0, chance) is None
    assert Schedule.parse("").delay_s(1, 0.0, chance) is None


def test_a_receiver_may_ask_for_more_time_but_not_for_ever() -> None:
    schedule, chance = Schedule.parse("5 300"), SeededRandomness()
    assert 54 <= (schedule.delay_s(1, 60.0, chance) or 0) <= 66
    assert (schedule.delay_s(1, 0.5, chance) or 0) >= 4.5
    assert (schedule.delay_s(1, 1e12, chance) or 0) <= schedule.longest_s <= 27 * 3600
    assert schedule.delay_s(3, 60.0, chance) is None


@pytest.mark.parametrize("text", ["x", "5 -1", "0", "inf", "nan", "1e9", " ".join(["5"] * 41)])
def test_a_schedule_that_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Schedule.parse(text)
