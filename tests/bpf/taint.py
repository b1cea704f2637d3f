# SPDX-License-Identifier: GPL-3.0-or-later
"""Where secret bytes go in a function of BPF instructions: an abstract interpretation.

What it proves, for all inputs and all paths: no conditional jump, no address of a load or
store, no divisor or dividend, and no argument or field declared public depends on a secret.
Without such jumps there are no implicit flows, so following the data is enough.

A function's arguments are declared (:class:`Area`, :data:`PUBLIC`). All of an area is secret,
whoever wrote it, except the fields declared public: a secret must never be stored there, and
a pointer is read back only from a pointer field. The stack is followed byte by byte. A callee
is checked by itself under its own declaration, and what a caller passes must fit that. A
result that a secret decides is a finding too, unless the function is declared to tell it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.bpf.elf import CALL, LOAD_IMMEDIATE, Instruction

# Classes, operations and modes of instructions (RFC 9669).
_LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = 1, 2, 3, 4, 5, 6, 7
_ADD, _SUB, _DIV, _MOD, _MOV, _NEG, _END = 0x00, 0x10, 0x30, 0x90, 0xB0, 0x80, 0xD0
_JA, _EXIT = 0x00, 0x90
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_MEM = 0x60
_FROM_REGISTER = 0x08
_FRAME = 10
_WIDE = 64
BPF_LOOP = 181  # the one helper that these functions may call
PUBLIC = "public"


@dataclass(frozen=True)
class Area:
    """A pointer to memory of that name in :class:`Declarations`."""

    name: str


@dataclass(frozen=True)
class Layout:
    """What is not secret in an area: ranges of bytes, and pointers by offset."""

    size: int
    public: frozenset[tuple[int, int]] = frozenset()  # (offset, bytes)
    pointers: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Declarations:
    layouts: Mapping[str, Layout]
    arguments: Mapping[str, Sequence[Area | str]]  # by function
    tells: frozenset[str] = frozenset()  # functions whose result a secret may decide


@dataclass(frozen=True)
class Finding:
    function: str
    slot: int  # instruction, counted from the function's first
    what: str

    def __str__(self) -> str:
        return f"{self.function}+{self.slot}: {self.what}"


@dataclass(frozen=True)
class Value:
    """A register's content. `region` is None for a number; `at` is the number, or the offset
    in the region, or None if it varies (publicly, unless `secret`)."""

    secret: bool = False
    region: str | None = None
    at: int | None = None

    def join(self, other: Value) -> Value:
        if self == other:
            return self
        secret = self.secret or other.secret
        if self.region != other.region:
            return Value(secret)
        return Value(secret, self.region, self.at if self.at == other.at else None)


SECRET, KNOWN = Value(secret=True), Value()
STACK, FUNCTION = "stack", "function "
Stack = dict[int, tuple[int, Value]]  # offset from the frame pointer -> bytes, content


@dataclass
class State:
    registers: list[Value]
    stack: Stack

    def copy(self) -> State:
        return State(list(self.registers), dict(self.stack))

    def join(self, other: State) -> State:
        registers = [a.join(b) for a, b in zip(self.registers, other.registers, strict=True)]
        stack: Stack = {}
        for at, (size, value) in self.stack.items():
            if at in other.stack and other.stack[at][0] == size:
                stack[at] = size, value.join(other.stack[at][1])
        # What only one side wrote, or in other pieces, is secret like all unwritten stack.
        return State(registers, stack)


class _Function:
    def __init__(self, name: str, code: list[Instruction], declared: Declarations) -> None:
        self.name, self.code, self.declared = name, code, declared
        self.findings: set[Finding] = set()
        self.callees: set[str] = set()
        self.slot = 0

    def report(self, what: str) -> None:
        self.findings.add(Finding(self.name, self.slot, what))

    def run(self) -> None:
        registers = [SECRET] * 11  # a register that nothing set must not be used
        arguments = self.declared.arguments.get(self.name)
        if arguments is None:
            self.report("arguments are not declared")
            return
        for number, argument in enumerate(arguments, 1):
            registers[number] = (
                Value(region=argument.name, at=0) if isinstance(argument, Area) else KNOWN
            )
        registers[_FRAME] = Value(region=STACK, at=0)
        before: dict[int, State] = {0: State(registers, {})}
        waiting = [0]
        while waiting:
            self.slot = waiting.pop()
            for slot, state in self.step(before[self.slot].copy()):
                joined = before[slot].join(state) if slot in before else state
                if joined != before.get(slot):
                    before[slot] = joined
                    waiting.append(slot)

    def step(self, state: State) -> list[tuple[int, State]]:
        """Do the instruction: the slots that may follow, and the state there."""
        item = self.code[self.slot]
        following = self.slot + 1
        kind = item.code & 7
        if item.code == LOAD_IMMEDIATE:
            low, high = item.immediate & 0xFFFFFFFF, self.code[following].immediate
            state.registers[item.dst] = Value(at=low | high << 32)
            if item.function is not None:
                state.registers[item.dst] = Value(region=FUNCTION + item.function, at=0)
            elif item.symbol is not None:
                self.report(f"takes the address of {item.symbol}")
            following += 1
        elif kind in {_ALU, _ALU64}:
            state.registers[item.dst] = self.alu(item, state)
        elif kind == _LDX and item.code & 0xE0 == _MEM:
            state.registers[item.dst] = self.load(item, state)
        elif kind in {_ST, _STX} and item.code & 0xE0 == _MEM:
            self.store(item, state)
        elif item.code == CALL:
            self.call(item, state)
        elif kind in {_JMP, _JMP32}:
            return self.jump(item, state)
        else:
            self.report(f"instruction {item.code:#04x} is not understood")
        return [(following, state)]

    def source(self, item: Instruction, state: State) -> Value:
        if item.code & _FROM_REGISTER:
            return state.registers[item.src]
        return Value(at=item.immediate)

    def alu(self, item: Instruction, state: State) -> Value:
        operation, wide = item.code & 0xF0, item.code & 7 == _ALU64
        old, by = state.registers[item.dst], self.source(item, state)
        if operation == _MOV:
            if wide and item.offset == 0:
                return by
            known = by.region is None and by.at is not None and item.offset == 0
            return Value(by.secret, None, (by.at or 0) & 0xFFFFFFFF if known else None)
        if operation in {_NEG, _END}:
            return Value(old.secret)
        secret = old.secret or by.secret
        if secret and operation in {_DIV, _MOD}:
            self.report("divides a secret, or by one")
        if wide and operation in {_ADD, _SUB}:
            if old.region is None and by.region is not None and operation == _ADD:
                old, by = by, old
            if by.region is None:
                at = None
                if old.at is not None and by.at is not None:
                    at = old.at + by.at if operation == _ADD else old.at - by.at
                    at = (at + (1 << 63)) % (1 << _WIDE) - (1 << 63)
                return Value(secret, old.region, at)
        return Value(secret)

    def jump(self, item: Instruction, state: State) -> list[tuple[int, State]]:
        operation = item.code & 0xF0
        if operation == _EXIT:
            if state.registers[0].secret and self.name not in self.declared.tells:
                self.report("returns a secret")
            return []
        if operation == _JA:
            far = item.immediate if item.code & 7 == _JMP32 else item.offset
            return [(self.slot + 1 + far, state)]
        if state.registers[item.dst].secret or self.source(item, state).secret:
            self.report("branches on a secret")
        return [(self.slot + 1, state), (self.slot + 1 + item.offset, state.copy())]

    def address(self, pointer: Value, offset: int) -> tuple[str, int | None] | None:
        """Region and offset of an access, or None after a finding."""
        if pointer.secret:
            self.report("an address depends on a secret")
        elif pointer.region is None or pointer.region.startswith(FUNCTION):
            self.report("an address is no pointer of a known area")
        else:
            return pointer.region, None if pointer.at is None else pointer.at + offset
        return None

    def layout(self, region: str) -> Layout:
        return self.declared.layouts[region]

    def load(self, item: Instruction, state: State) -> Value:
        size = _SIZES[item.code & 0x18]
        place = self.address(state.registers[item.src], item.offset)
        if place is None:
            return SECRET
        region, at = place
        if region == STACK:
            return read_stack(state.stack, at, size)
        layout = self.layout(region)
        if at is not None:
            if size == 8 and at in layout.pointers:
                return Value(region=layout.pointers[at], at=0)
            if is_public(layout, at, size):
                return KNOWN
        return SECRET

    def store(self, item: Instruction, state: State) -> None:
        size = _SIZES[item.code & 0x18]
        place = self.address(state.registers[item.dst], item.offset)
        value = Value(at=item.immediate)
        if item.code & 7 == _STX:
            value = state.registers[item.src]
        if place is None:
            return
        region, at = place
        if region == STACK:
            write_stack(state.stack, at, size, value)
            return
        layout = self.layout(region)
        if value.region is not None:
            self.report(f"stores a pointer into {region}")
        first, last = (0, layout.size) if at is None else (at, at + size)
        if any(first < offset + 8 and offset < last for offset in layout.pointers):
            self.report(f"may overwrite a pointer of {region}")
        if value.secret and any(first < a + n and a < last for a, n in layout.public):
            self.report(f"may store a secret into a public field of {region}")

    def call(self, item: Instruction, state: State) -> None:
        registers = state.registers
        if item.function is not None:
            self.pass_to(item.function, registers[1:6], state)
        elif item.src == 0 and item.immediate == BPF_LOOP:
            if registers[1].secret:
                self.report("loops a secret number of times")
            target = registers[2].region or ""
            if target.startswith(FUNCTION):
                self.pass_to(target.removeprefix(FUNCTION), [KNOWN, registers[3]], state)
            else:
                self.report("calls back no function of the object")
        else:
            self.report(f"calls helper {item.immediate}")
        registers[0] = KNOWN  # a callee that returns a secret has that finding, or tells it
        registers[1:6] = [SECRET] * 5

    def pass_to(self, callee: str, values: list[Value], state: State) -> None:
        self.callees.add(callee)
        for value, argument in zip(values, self.declared.arguments.get(callee, ()), strict=False):
            if value.secret:
                self.report(f"passes a secret to {callee} as if it were public")
            elif isinstance(argument, Area):
                self.pass_area(callee, value, argument.name, state)

    def pass_area(self, callee: str, value: Value, name: str, state: State) -> None:
        """`value` must point to what `callee` declares; afterwards it may hold any of that."""
        wanted = self.layout(name)
        if value.region == STACK:
            if value.at is None:
                self.report(f"passes an unknown part of the stack to {callee}")
                return
            kept: Stack = {}
            for offset, region in wanted.pointers.items():
                pointer = read_stack(state.stack, value.at + offset, 8)
                if not self.fits(pointer, region):
                    self.report(f"passes {callee} a {name} that is not as declared")
                kept[value.at + offset] = 8, pointer
            for offset, size in wanted.public:
                if read_stack(state.stack, value.at + offset, size).secret:
                    self.report(f"passes {callee} a {name} that is not as declared")
                kept[value.at + offset] = size, KNOWN
            write_stack(state.stack, value.at, wanted.size, SECRET)
            for at, (size, content) in kept.items():
                write_stack(state.stack, at, size, content)
        elif not self.fits(value, name):
            self.report(f"passes {callee} something else than a {name}")

    def fits(self, value: Value, name: str) -> bool:
        """Whether `value` points to area `name`, or to a part of another with its layout."""
        if value.secret or value.region is None or value.region not in self.declared.layouts:
            return value == Value(at=0)  # NULL is refused by every function
        if (value.region, value.at) == (name, 0):
            return True
        outer, inner = self.layout(value.region), self.layout(name)
        if value.at is None:  # which part is a public matter; no part differs from another
            return not (outer.public or outer.pointers or inner.public or inner.pointers)
        if value.at + inner.size > outer.size or outer.pointers or inner.pointers:
            return False
        # What one side takes for public the other must not take for secret.
        moved = {(value.at + at, size) for at, size in inner.public}
        within = {
            (at, size)
            for at, size in outer.public
            if at < value.at + inner.size and value.at < at + size
        }
        return moved == within


def is_public(layout: Layout, at: int, size: int) -> bool:
    return any(a <= at and at + size <= a + n for a, n in layout.public)


def read_stack(stack: Stack, at: int | None, size: int) -> Value:
    if at is None:
        return SECRET
    if at in stack and stack[at][0] == size:
        return stack[at][1]
    covered = 0
    secret = False
    for start, (length, value) in stack.items():
        overlap = min(at + size, start + length) - max(at, start)
        if overlap > 0:
            covered += overlap
            secret |= value.secret
    return Value(secret or covered < size)


def write_stack(stack: Stack, at: int | None, size: int, value: Value) -> None:
    if at is None:  # anywhere: only what it makes worse counts
        if value.secret:
            for start, (length, old) in stack.items():
                stack[start] = length, replace(old, secret=True)
        return
    for start, (length, old) in list(stack.items()):
        if start < at + size and at < start + length:
            del stack[start]
            for left, right in ((start, at), (at + size, start + length)):
                if left < right:
                    stack[left] = right - left, Value(old.secret)
    stack[at] = size, value


def check(
    functions: Mapping[str, list[Instruction]], roots: Sequence[str], declared: Declarations
) -> tuple[list[Finding], set[str]]:
    """Check `roots` and all they call: the findings, and the functions looked at."""
    findings: set[Finding] = set()
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        one = _Function(name, functions[name], declared)
        one.run()
        findings |= one.findings
        waiting += one.callees
    return sorted(findings, key=lambda item: (item.function, item.slot)), seen
