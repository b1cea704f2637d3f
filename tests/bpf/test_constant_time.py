# SPDX-License-Identifier: GPL-3.0-or-later
"""No branch and no address of the primitives depends on a secret: asked of the object's
instructions, not of the C, since LLVM may turn a select into a branch."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest

from tests.bpf.compile import compile_bpf
from tests.bpf.elf import functions
from tests.bpf.loaded import ROOT, Loaded
from tests.bpf.taint import PUBLIC, Area, Declarations, Layout, check

# What others call. What these call, and their callbacks, are looked at too.
ROOTS = (
    "secretbox_seal",
    "secretbox_verify",
    "secretbox_decrypt",
    "hsalsa20",
    "blake2b_block",
    "x25519",
    "derive_dh",
    "derive_box",
    "derive_wipe",
    "header_tag",
    "admission_compare",
)
ALL = {
    *ROOTS,
    "secretbox_xor_callback",
    "secretbox_group_callback",
    "secretbox_block_callback",
    "field25519_multiply",
    "field25519_square",
    "x25519_step",
    "x25519_ladder_callback",
    "x25519_square_callback",
}
KEY = Area("key_words")
PUBLIC_KEY = Area("public key")
FIELD = Area("field25519")
ARGUMENTS: dict[str, tuple[Area | str, ...]] = {
    # The text's length is public, the text not.
    "secretbox_seal": (Area("secretbox"), PUBLIC),
    "secretbox_verify": (Area("secretbox"), PUBLIC),
    "secretbox_decrypt": (Area("secretbox"), PUBLIC),
    "secretbox_xor_callback": (PUBLIC, Area("secretbox_loop")),
    "secretbox_group_callback": (PUBLIC, Area("secretbox_loop")),
    "secretbox_block_callback": (PUBLIC, Area("secretbox_loop")),
    "hsalsa20": (Area("hsalsa20"),),
    "blake2b_block": (Area("blake2b"), PUBLIC, PUBLIC),
    "field25519_multiply": (FIELD, FIELD, FIELD),
    "field25519_square": (FIELD, FIELD),
    "x25519_step": (Area("x25519_scratch"),),
    "x25519_ladder_callback": (PUBLIC, Area("x25519_loop")),
    "x25519_square_callback": (PUBLIC, Area("x25519_loop")),
    "x25519": (Area("x25519"), KEY, PUBLIC_KEY),
    # Whether the peer's key is our own is decided by public keys.
    "derive_dh": (Area("derive"), KEY, PUBLIC_KEY, PUBLIC_KEY),
    "derive_box": (Area("derive"), KEY, KEY, KEY, PUBLIC),
    "derive_wipe": (Area("derive"),),
    "header_tag": (Area("header_tag"), KEY),
    "admission_compare": (Area("admission_area"),),
}
# The verdict on a tag, and on a point of low order: what the peer sees anyway.
TELLS = frozenset({"secretbox_verify", "x25519", "admission_compare"})


def declarations(loaded: Loaded) -> Declarations:
    """Sizes and offsets from the object's BTF."""

    def place(name: str, *path: str) -> tuple[int, int]:
        """Offset and size of a member, or of a member's member."""
        at, kind = 0, loaded.struct(name)
        for step in path:
            at += getattr(kind, step).offset
            kind = dict(kind._fields_)[step]
        return at, ctypes.sizeof(kind)

    def layout(name: str, *public: tuple[str, ...]) -> Layout:
        return Layout(place(name)[1], frozenset(place(name, *path) for path in public))

    key_bytes = place("key_words")[1]
    layouts = {
        "secretbox": layout("secretbox"),
        "hsalsa20": layout("hsalsa20"),
        "blake2b": layout("blake2b", ("count",)),
        "field25519": layout("field25519"),
        "x25519": layout("x25519"),
        "x25519_scratch": layout("x25519_scratch"),
        "key_words": layout("key_words"),
        "public key": Layout(key_bytes, frozenset({(0, key_bytes)})),
        "derive": layout("derive", ("blake2b", "count")),
        "header_tag": layout("header_tag", ("blake2b", "count")),
        "admission_area": layout("admission_area", ("hash", "count"), ("source",)),
        # On the stack: a pointer, and where to begin.
        "secretbox_loop": Layout(16, frozenset({(8, 4)}), {0: "secretbox"}),
        "x25519_loop": Layout(8, pointers={0: "x25519_scratch"}),
    }
    return Declarations(layouts, ARGUMENTS, TELLS)


def test_the_object_keeps_secrets(loaded: Loaded, bpf_object: Path) -> None:
    findings, seen = check(functions(bpf_object), ROOTS, declarations(loaded))
    assert not findings, "\n".join(map(str, findings))
    assert seen == ALL


LEAKY = Declarations(
    layouts={
        "leaky": Layout(72, frozenset({(32, 8)})),
        "leaky_loop": Layout(16, frozenset({(8, 8)}), {0: "leaky"}),
    },
    arguments={"public_length": (Area("leaky"), PUBLIC)}
    | {"leaky_callback": (PUBLIC, Area("leaky_loop"))}
    | {
        name: (Area("leaky"),)
        for name in (
            *("clean_select", "clean_index", "leaky_select", "leaky_branch", "leaky_load"),
            *("leaky_store", "leaky_memory", "leaky_stack", "leaky_divide", "leaky_field"),
            *("leaky_result", "leaky_argument", "leaky_loop_count", "leaky_loop_context"),
            "leaky_helper",
        )
    },
)


@pytest.fixture(scope="session")
def leaky_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).parent / "leaky.bpf.c"
    return compile_bpf(source, tmp_path_factory.mktemp("leaky") / "leaky.bpf.o")


@pytest.mark.parametrize("name", ["clean_select", "clean_index"])
def test_clean_functions_pass(leaky_object: Path, name: str) -> None:
    findings, _seen = check(functions(leaky_object), [name], LEAKY)
    assert not findings, "\n".join(map(str, findings))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("leaky_select", "branches on a secret"),
        ("leaky_branch", "branches on a secret"),
        ("leaky_load", "an address depends on a secret"),
        ("leaky_store", "an address depends on a secret"),
        ("leaky_memory", "branches on a secret"),
        ("leaky_stack", "branches on a secret"),
        ("leaky_divide", "divides a secret, or by one"),
        ("leaky_field", "may store a secret into a public field of leaky"),
        ("leaky_result", "returns a secret"),
        ("leaky_argument", "passes a secret to public_length as if it were public"),
        ("leaky_loop_count", "loops a secret number of times"),
        ("leaky_loop_context", "passes leaky_callback a leaky_loop that is not as declared"),
        ("leaky_helper", "calls helper 5"),
    ],
)
def test_leaks_are_found(leaky_object: Path, name: str, what: str) -> None:
    findings, _seen = check(functions(leaky_object), [name], LEAKY)
    assert {(item.function, item.what) for item in findings} == {(name, what)}


@pytest.mark.parametrize(
    ("header", "old", "new", "function"),
    [
        pytest.param(
            "x25519.h",
            "\tx25519_step(s);\n",
            "\tif (bit)\n\t\tx25519_step(s);\n",
            "x25519_ladder_callback",
            id="a ladder that skips",
        ),
        pytest.param(
            "x25519.h",
            "s->choose = 0 - (bit ^ s->bit);",
            "s->choose = bit == s->bit ? 0 : ~0ULL;",
            "x25519_ladder_callback",
            id="a mask by comparison",
        ),
        pytest.param(
            "x25519.h",
            "(int)(1 ^ any_bit(any))",
            "!any",
            "x25519",
            id="a verdict by branch",
        ),
        pytest.param(
            "secretbox.h",
            "-(int)any_bit(difference)",
            "difference ? -1 : 0",
            "secretbox_verify",
            id="a comparison that stops early",
        ),
        pytest.param(
            "field25519.h",
            "\tt[0] += 19 * (carry >> FIELD25519_TOP_BITS);\n",
            "\tif (carry >> FIELD25519_TOP_BITS)\n\t\tt[0] += 19;\n",
            "x25519",
            id="a conditional subtraction of p",
        ),
        pytest.param(
            "blake2b.h",
            "v[i] = hash->state[i];",
            "v[i] = hash->state[hash->block[i] & 7];",
            "blake2b_block",
            id="a table look-up by a key",
        ),
    ],
)
def test_leaks_in_the_real_code_are_found(
    loaded: Loaded, tmp_path: Path, header: str, old: str, new: str, function: str
) -> None:
    """Damage a copy of the sources, and the analysis of that object must name the function."""
    shutil.copytree(ROOT / "bpf", tmp_path / "bpf")
    path = tmp_path / "bpf" / header
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    built = compile_bpf(tmp_path / "bpf" / "brine.bpf.c", tmp_path / "damaged.o")
    root = "x25519" if function.startswith("x25519") else function
    findings, _seen = check(functions(built), [root], declarations(loaded))
    assert {item.function for item in findings} == {function}
