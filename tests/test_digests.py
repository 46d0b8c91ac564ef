import hashlib
import json

import numpy as np
import pytest

from ttr.digests import sha256, sha256_of


def test_parts_are_hashed_one_behind_the_other():
    expected = hashlib.sha256("é|bytes".encode() + bytes(3)).hexdigest()
    assert sha256(iter(["é|", b"bytes", np.zeros(3, np.uint8).data])) == expected
    assert sha256(["é|bytes", bytes(3)], 16) == expected[:16]


def test_values_count_whatever_the_order_of_their_keys():
    assert sha256_of({"b": (1,), "a": None}) == hashlib.sha256(b'{"a": null, "b": [1]}').hexdigest()
    assert sha256_of([1], digits=24) == hashlib.sha256(json.dumps([1]).encode()).hexdigest()[:24]


@pytest.mark.parametrize(
    "change", [lambda x: x.T, lambda x: x.view(np.int64), lambda x: x + 1, lambda x: x[0]]
)
def test_type_shape_and_content_of_an_array_count_and_its_strides_do_not(change):
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    assert sha256_of([], [array]) == sha256_of([], [np.asfortranarray(array)])
    assert sha256_of([], [change(array)]) != sha256_of([], [array])
    assert sha256_of([], [array, change(array)]) != sha256_of([], [change(array), array])
