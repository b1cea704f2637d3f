# SPDX-License-Identifier: GPL-3.0-or-later
"""The bounds of bpf/field25519.h: no signed overflow from any input that is within them, what
comes out is within them, and it is the right number. Overflow ends the native program."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings
from nacl.exceptions import RuntimeError as SodiumError

from tests import vectors
from tests.native.build import build

P = 2**255 - 19
LIMBS, BITS = 9, 29
LOOSE = int(2**29.9)
# Of the ladder's sums, one factor of a product, beside a difference.
SUM, DIFFERENCE = 2**30 + 2**17, 2**29 + 2**17
REDUCED = [(0, 2**29 - 1)] + [(-(2**16), 2**29 + 2**16 - 1)] + [(0, 2**29 - 1)] * 7
CENTRED = 2**29 + 2**18

Limbs = Sequence[int]


def limbs(bounds: Sequence[tuple[int, int]]) -> st.SearchStrategy[tuple[int, ...]]:
    """Limbs within the bounds, often on them."""
    return st.tuples(
        *(
            st.one_of(st.sampled_from([low, high]), st.integers(low, high), st.just(0))
            for low, high in bounds
        )
    )


def within(bound: int) -> list[tuple[int, int]]:
    return [(-bound, bound)] * LIMBS


def value(item: Limbs) -> int:
    return sum(limb << BITS * place for place, limb in enumerate(item))


def assert_reduced(item: Limbs) -> None:
    for limb, (low, high) in zip(item, REDUCED, strict=True):
        assert low <= limb <= high, item


class Field:
    """The native program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, question: str) -> list[str]:
        """The words of the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"overflow, or a bad question: exit code {self._process.wait()}"
        return line.split()

    def limbs(self, operation: str, *numbers: Limbs) -> list[list[int]]:
        """The answer about elements as elements."""
        words = [str(number) for item in numbers for number in item]
        answer = [int(word) for word in self.ask(" ".join([operation, *words]))]
        return [answer[at : at + LIMBS] for at in range(0, len(answer), LIMBS)]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    flags = ["-O1", "-fsanitize=signed-integer-overflow,shift", "-fsanitize-trap=all"]
    program = build("field25519.c", tmp_path_factory.mktemp("field"), flags)
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Field(process)
        assert process.stdin is not None
        process.stdin.close()


def words(item: bytes) -> str:
    """32 bytes as the program reads them."""
    return " ".join(item[at : at + 8][::-1].hex() for at in range(0, 32, 8))


PATTERNS = [
    [LOOSE if signs >> place & 1 else -LOOSE for place in range(LIMBS)] for signs in range(2**LIMBS)
]


def test_extremes_multiply(field: Field) -> None:
    """All signs of the largest loose limbs, against all positive and against themselves."""
    most = [LOOSE] * LIMBS
    for item in PATTERNS:
        for other in (most, item):
            (out,) = field.limbs("m", item, other)
            assert_reduced(out)
            assert (value(out) - value(item) * value(other)) % P == 0


def test_extremes_square(field: Field) -> None:
    for item in PATTERNS:
        (out,) = field.limbs("s", item)
        assert_reduced(out)
        assert (value(out) - value(item) ** 2) % P == 0


def test_a_bound_further_overflows(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The check can fail, and `loose` is not far from all there is: 2^30 is too much."""
    flags = ["-O1", "-fsanitize=signed-integer-overflow", "-fsanitize-trap=all"]
    program = build("field25519.c", tmp_path_factory.mktemp("field"), flags)
    line = "s " + " ".join([str(2**30)] * LIMBS)
    done = subprocess.run([program], input=line, text=True, check=False, capture_output=True)
    assert done.returncode < 0


@settings(deadline=None)
@given(a=limbs(within(LOOSE)), b=limbs(within(LOOSE)))
def test_multiply(field: Field, a: Limbs, b: Limbs) -> None:
    (out,) = field.limbs("m", a, b)
    assert_reduced(out)
    assert (value(out) - value(a) * value(b)) % P == 0


@settings(deadline=None)
@given(a=limbs(within(SUM)), b=limbs(within(DIFFERENCE)))
def test_multiply_a_sum_by_a_difference(field: Field, a: Limbs, b: Limbs) -> None:
    for one, other in ((a, b), (b, a)):
        (out,) = field.limbs("m", one, other)
        assert_reduced(out)
        assert (value(out) - value(a) * value(b)) % P == 0


@settings(deadline=None)
@given(a=limbs(within(LOOSE)))
def test_square(field: Field, a: Limbs) -> None:
    (out,) = field.limbs("s", a)
    assert_reduced(out)
    assert (value(out) - value(a) ** 2) % P == 0


@settings(deadline=None)
@given(a=limbs(REDUCED), b=limbs(REDUCED))
def test_sum_and_difference(field: Field, a: Limbs, b: Limbs) -> None:
    total, difference = field.limbs("d", a, b)
    for item in (total, difference):
        assert all(abs(limb) <= CENTRED for limb in item)
    assert (value(total) - value(a) - value(b)) % P == 0
    assert value(difference) == value(a) - value(b)


@settings(deadline=None)
@given(a=limbs(REDUCED), b=limbs(REDUCED))
def test_curve(field: Field, a: Limbs, b: Limbs) -> None:
    difference, out = field.limbs("c", a, b)
    assert value(difference) == value(a) - value(b)
    assert all(abs(limb) <= CENTRED for limb in difference)
    assert_reduced(out)
    assert (value(out) - value(a) - 121665 * (value(a) - value(b))) % P == 0


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_load(field: Field, item: bytes) -> None:
    out = [int(word) for word in field.ask(f"l {words(item)}")]
    assert_reduced(out)
    assert value(out) == int.from_bytes(item, "little") % 2**255


def stored(field: Field, item: Limbs) -> int:
    answer = [int(word, 16) for word in field.ask("w " + " ".join(map(str, item)))]
    return sum(word << 64 * place for place, word in enumerate(answer))


@settings(deadline=None)
@given(limbs(REDUCED))
def test_store(field: Field, item: Limbs) -> None:
    assert stored(field, item) == value(item) % P


def test_store_around_multiples_of_p(field: Field) -> None:
    """Where the canonical form flips: every multiple of p that is a reduced element, 40 to
    either side; small limbs below zero included."""
    top = value([high for _low, high in REDUCED])
    for multiple, near in itertools.product(range(top // P + 2), range(-40, 41)):
        number = multiple * P + near
        item = [number >> BITS * place & 2**BITS - 1 for place in range(LIMBS - 1)]
        item.append(number >> BITS * (LIMBS - 1))
        if number < 0 or item[-1] >= 2**BITS:
            continue
        assert stored(field, item) == number % P
    for low, second in itertools.product((0, 1, 2**29 - 1), (-(2**16), -1)):
        assert stored(field, [low, second] + [0] * 7) == (low + (second << BITS)) % P


@settings(deadline=None)
@given(st.lists(limbs(REDUCED), min_size=5, max_size=5), st.sampled_from([0, 2**64 - 1]))
def test_step(field: Field, points: list[Limbs], choose: int) -> None:
    """One step of the ladder from any reduced coordinates, against RFC 7748's formulas."""
    numbers = [str(limb) for item in points for limb in item]
    out = [int(word) for word in field.ask(" ".join(["p", *numbers, f"{choose:x}"]))]
    x2, z2, x3, z3 = (out[at : at + LIMBS] for at in range(0, 4 * LIMBS, LIMBS))
    for item in (x2, z2, x3, z3):
        assert_reduced(item)
    u, a, b, c, d = (value(item) for item in points)
    if choose:
        a, b, c, d = c, d, a, b
    da, cb = (c - d) * (a + b), (c + d) * (a - b)
    aa, bb = (a + b) ** 2, (a - b) ** 2
    e = aa - bb
    assert (value(x2) - aa * bb) % P == 0
    assert (value(z2) - e * (aa + 121665 * e)) % P == 0
    assert (value(x3) - (da + cb) ** 2) % P == 0
    assert (value(z3) - u * (da - cb) ** 2) % P == 0


def native_x25519(field: Field, private: bytes, public: bytes) -> tuple[int, bytes]:
    code, *shared = field.ask(f"x {words(private)} {words(public)}")
    return int(code), b"".join(int(word, 16).to_bytes(8, "little") for word in shared)


def test_wycheproof_without_overflow(field: Field) -> None:
    """The cases are built to meet edges of the arithmetic; here an overflow would show."""
    for case in vectors.wycheproof("x25519_test.json"):
        _code, shared = native_x25519(
            field, bytes.fromhex(case["private"]), bytes.fromhex(case["public"])
        )
        assert shared.hex() == case["shared"], case["tcId"]


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_x25519(field: Field, private: bytes, public: bytes) -> None:
    expected = 1, bytes(32)
    with contextlib.suppress(SodiumError):  # of low order
        expected = 0, bindings.crypto_scalarmult(private, public)
    assert native_x25519(field, private, public) == expected
