"""The password: none that is blank or short, few tries a minute, nothing behind the door without it."""

from __future__ import annotations

import pytest

from ttr.apps.service.address import Address
from ttr.apps.service.password import Tries, check_password
from ttr.errors import OptionError

OPEN = (Address("0.0.0.0"), Address("192.168.1.2"), Address.of("127.0.0.1", "https://ttr.example.org"))


def test_a_page_for_others_needs_a_password():
    check_password(Address(), None)
    for address in OPEN:
        with pytest.raises(OptionError, match="set a password of 8 characters or more in TTR_APP_PASSWORD"):
            check_password(address, None)
        check_password(address, "long enough")


@pytest.mark.parametrize("password", ["", " ", " " * 20, "\t\n " * 8, "\u3000" * 9, "short", "  seven77  "])
@pytest.mark.parametrize("address", [Address(), *OPEN])
def test_a_password_that_is_set_is_neither_blank_nor_short(address, password):
    with pytest.raises(OptionError, match="TTR_APP_PASSWORD is .*needed 8 or more"):
        check_password(address, password)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_one_address_tries_five_a_minute_and_all_together_sixty():
    clock = Clock()
    tries = Tries(clock=clock)
    assert [tries.wait("10.0.0.1") for _ in range(7)] == [0] * 5 + [60, 60]
    assert tries.wait("10.0.0.2") == 0
    clock.now += 59
    assert tries.wait("10.0.0.1") == 1
    clock.now += 1
    assert [tries.wait(f"10.0.1.{index}") for index in range(61)] == [0] * 60 + [60]
    assert len(tries.tried) == 60


def test_the_right_password_is_no_wrong_one_and_a_network_is_one_address():
    tries = Tries(clock=Clock())
    for _ in range(20):
        assert tries.wait("10.0.0.1") == 0
        tries.right("10.0.0.1")
    assert [tries.wait(f"2001:db8::{index}") for index in range(6)] == [0] * 5 + [60]
    assert tries.wait("2001:db8:0:1::1") == 0
