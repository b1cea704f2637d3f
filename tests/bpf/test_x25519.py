# SPDX-License-Identifier: GPL-3.0-or-later
"""X25519 in the loaded object against published vectors and libsodium."""

from __future__ import annotations

import hashlib

import pytest
from nacl import bindings
from nacl.exceptions import RuntimeError as SodiumError

from tests import vectors
from tests.bpf.loaded import Loaded
from tests.bpf.primitives import area, x25519

P = 2**255 - 19
RFC7748 = vectors.load("rfc7748/x25519.json")
WYCHEPROOF = vectors.wycheproof("x25519_test.json")
DONE, LOW_ORDER = 0, 1

# Every u of order 1, 2, 4 or 8, on the curve or its twist, and their non-canonical forms:
# RFC 7748, section 6.1; Langley, "curve25519-dalek low order points"; libsodium's list.
ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
LOW_ORDER_U = (0, 1, *ORDER_8, P - 1, P, P + 1)


def drawn(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()


def little(value: int) -> bytes:
    return value.to_bytes(32, "little")


def sodium(private: bytes, public: bytes) -> bytes | None:
    """libsodium's result, or None where it refuses."""
    try:
        return bindings.crypto_scalarmult(private, public)
    except SodiumError:
        return None


def test_the_vector_file_is_whole() -> None:
    assert len(WYCHEPROOF) == 518


def test_wycheproof(loaded: Loaded) -> None:
    """All cases: `acceptable` means that X25519 as RFC 7748 has it gives that result; of those
    the ones with an all-zero result must be refused."""
    low = 0
    for case in WYCHEPROOF:
        result, shared = x25519(
            loaded, bytes.fromhex(case["private"]), bytes.fromhex(case["public"])
        )
        assert shared.hex() == case["shared"], case["tcId"]
        zero = not any(shared)
        assert zero == ("ZeroSharedSecret" in case["flags"]), case["tcId"]
        assert result == (LOW_ORDER if zero else DONE), case["tcId"]
        low += zero
    assert low


@pytest.mark.parametrize("case", RFC7748["multiplication"])
def test_rfc7748_multiplication(loaded: Loaded, case: dict[str, str]) -> None:
    done = x25519(loaded, bytes.fromhex(case["scalar"]), bytes.fromhex(case["u"]))
    assert done == (DONE, bytes.fromhex(case["result"]))


def test_rfc7748_agreement(loaded: Loaded) -> None:
    case = {name: bytes.fromhex(value) for name, value in RFC7748["agreement"].items()}
    for side, other in (("alice", "bob"), ("bob", "alice")):
        assert x25519(loaded, case[f"{side}_private"], little(9)) == (DONE, case[f"{side}_public"])
        assert x25519(loaded, case[f"{side}_private"], case[f"{other}_public"]) == (
            DONE,
            case["shared"],
        )


def test_rfc7748_iteration(loaded: Loaded) -> None:
    """1 and 1000 times: each result is the next scalar, each scalar the next u."""
    k = u = bytes.fromhex(RFC7748["iteration"]["start"])
    for count in range(1, 1001):
        result, shared = x25519(loaded, k, u)
        assert result == DONE
        k, u = shared, k
        if count in {1, 1000}:
            assert k.hex() == RFC7748["iteration"]["after"][str(count)], count


def test_libsodium_on_drawn_keys(loaded: Loaded) -> None:
    """Any 32 bytes as u: half of them lie on the twist, half have bit 255 set."""
    for number in range(500):
        private, public = drawn(f"private {number}"), drawn(f"public {number}")
        assert x25519(loaded, private, public) == (DONE, sodium(private, public)), number


@pytest.mark.parametrize("private", [bytes(32), b"\xff" * 32, little(2**254), little(8)])
def test_scalars_are_clamped(loaded: Loaded, private: bytes) -> None:
    public = bindings.crypto_scalarmult_base(drawn("a public key"))
    assert x25519(loaded, private, public) == (DONE, sodium(private, public))


@pytest.mark.parametrize("top", [0, 1 << 255])
@pytest.mark.parametrize("u", LOW_ORDER_U)
def test_low_order_points_are_refused(loaded: Loaded, u: int, top: int) -> None:
    for number in range(4):
        private = drawn(f"private {number}")
        assert sodium(private, little(u | top)) is None
        assert x25519(loaded, private, little(u | top)) == (LOW_ORDER, bytes(32))


def test_non_canonical_u(loaded: Loaded) -> None:
    """p to 2^255 - 1 is taken as it is, with or without the ignored bit 255."""
    private = drawn("private")
    for excess in range(2, 19):
        expected = sodium(private, little(excess))
        for u in (excess, P + excess, P + excess | 1 << 255):
            assert x25519(loaded, private, little(u)) == (DONE, expected), u


def test_points_near_limb_boundaries(loaded: Loaded) -> None:
    """u and scalars of long runs of ones and zeros: carries that random ones never meet."""
    private = drawn("private")
    for limb in range(1, 9):
        for edge in (1 << 29 * limb, (1 << 29 * limb) - 1, P - (1 << 29 * limb)):
            for k, u in ((private, little(edge)), (little(edge), little(9))):
                assert x25519(loaded, k, u) == (DONE, sodium(k, u)), (limb, edge)


def test_scratch_is_overwritten(loaded: Loaded) -> None:
    private, public = drawn("private"), bindings.crypto_scalarmult_base(drawn("another"))
    _result, shared = x25519(loaded, private, public)
    left = area(loaded).derive.x25519
    assert bytes(left.shared) == shared
    assert not any(bytes(left.scratch))
