# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedule the Salsa20 rounds for BPF's ten registers: writes salsa20_scheduled.h.

    python3 generate_salsa20.py > salsa20_scheduled.h

A compiler does badly here. BPF has no rotate, so that LLVM spends three
operations on each, and it spills with little regard to which word is needed
next. This schedule differs from its output in three ways:

1. A step `d ^= rotl(a + b, n)` is six instructions, not seven, and has no
   or-operation: the 32-bit sum is shifted left by n in a 64-bit register, whose
   lower and upper halves are the two parts of the rotation, and each is xored
   into d by itself.
2. The whole state never fits. Words live in nine registers (the tenth holds the
   sum); the word given up is always the one whose next use is furthest (Belady),
   which is optimal for loads, over all rounds at once: hence they are unrolled.
3. Two independent quarter rounds are interleaved step by step. A step is a chain
   of four cycles; one quarter round alone would leave the processor waiting.

The first steps depend on key and nonce but not on the block counter. They are
computed once a message (salsa20_start in salsa20.h, in plain C) and left out
here: STEPS_BEFORE below names them, and a test holds the sum of both equal to the
plain rounds.

No step branches or forms an address: the code is constant in time by construction.
"""

from __future__ import annotations

WORDS = 16
REGISTERS = 9  # r1 to r9; r0 holds the sum
COLUMN_4 = 16  # word 4 as it is between the column and the row round

Step = tuple[int, int, int, int]  # d, a, b, n:  x[d] ^= rotl(x[a] + x[b], n)

COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))


def quarter_round(a: int, b: int, c: int, d: int) -> list[Step]:
    """Salsa20 specification, section 3."""
    return [(b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)]


def interleave(*rounds: list[Step]) -> list[Step]:
    """One step of each in turn; the shorter ones begin later."""
    length = max(map(len, rounds))
    padded = [[None] * (length - len(steps)) + steps for steps in rounds]
    return [step for turn in zip(*padded, strict=True) for step in turn if step]


def all_steps() -> list[Step]:
    """The twenty rounds without what salsa20_start has done."""
    first = quarter_round(*COLUMNS[0])[2:]
    # The row round of word 4 is already in it; the column round wants the former.
    first[0] = (12, 8, COLUMN_4, 13)
    rows = [quarter_round(*row) for row in ROWS]
    steps = first + rows[0]
    steps += interleave(rows[2][1:], rows[3])
    for number in range(2, 20):
        quarters = [quarter_round(*words) for words in (ROWS if number % 2 else COLUMNS)]
        steps += interleave(*quarters[:2]) + interleave(*quarters[2:])
    return steps


def allocate(steps: list[Step]) -> list[str]:
    """Assembly of the steps. All words begin and end in memory."""
    uses: dict[int, list[int]] = {word: [] for word in range(WORDS + 1)}
    for number, step in enumerate(steps):
        for word in step[:3]:
            uses[word].append(number)
    held: dict[int, int] = {}  # word -> register
    changed: set[int] = set()
    free = list(range(1, REGISTERS + 1))
    lines = []

    def store(word: int) -> None:
        if word in changed:
            lines.append(f"*(u32 *)%[x{word}] = w{held[word]}")
            changed.discard(word)

    for number, (d, a, b, n) in enumerate(steps):
        for word in (a, b, d):
            if word in held:
                continue
            if not free:
                # Of two that are equally far, the one that needs no store.
                victim = max(
                    (other for other in held if other not in (a, b, d)),
                    key=lambda other: (
                        next((use for use in uses[other] if use >= number), len(steps)),
                        other not in changed,
                    ),
                )
                store(victim)
                free.append(held.pop(victim))
            held[word] = free.pop()
            lines.append(f"w{held[word]} = *(u32 *)%[x{word}]")
        lines += [
            f"w0 = w{held[a]}",
            f"w0 += w{held[b]}",
            f"r0 <<= {n}",
            f"w{held[d]} ^= w0",
            "r0 >>= 32",
            f"w{held[d]} ^= w0",
        ]
        changed.add(d)
    for word in sorted(held):
        store(word)
    return lines


def render() -> str:
    """The header."""
    lines = "".join(f'\t\t"{line}\\n"\n' for line in allocate(all_steps()))
    operands = ", ".join(f'[x{word}] "m"(x[{word}])' for word in range(WORDS + 1))
    registers = ", ".join(f'"r{register}"' for register in range(REGISTERS + 1))
    return f"""\
/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Written by generate_salsa20.py, which explains it. Do not edit.
 */
#ifndef BRINE_SALSA20_SCHEDULED_H
#define BRINE_SALSA20_SCHEDULED_H

#include <linux/types.h>

/* The rounds that salsa20_start left, in place. x[16] is word 4 as it is
 * between the column and the row round. */
static __always_inline void salsa20_rounds_scheduled(__u32 x[17])
{{
\t/* clang-format off */
\tasm volatile(
{lines}\t\t:
\t\t: {operands}
\t\t: "memory", {registers});
\t/* clang-format on */
}}

#endif
"""


if __name__ == "__main__":
    print(render(), end="")
