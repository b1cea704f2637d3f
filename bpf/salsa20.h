/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Salsa20 (Bernstein, "The Salsa20 family of stream ciphers", 2007) and its
 * key-derivation form HSalsa20 ("Extending the Salsa20 nonce", 2011).
 *
 * Twice: in plain C, which HSalsa20 uses, and scheduled for BPF's ten registers
 * (generate_salsa20.py), which texts use. No branch and no address depends on a
 * key.
 */
#ifndef BRINE_SALSA20_H
#define BRINE_SALSA20_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "salsa20_scheduled.h"

enum salsa20_size {
	SALSA20_WORDS = 16,
	SALSA20_BLOCK = 64,
	SALSA20_START_WORDS = SALSA20_WORDS + 1,
	SALSA20_DOUBLE_ROUNDS = 10,
};

/* "expand 32-byte k" */
#define SALSA20_SIGMA0 0x61707865u
#define SALSA20_SIGMA1 0x3320646eu
#define SALSA20_SIGMA2 0x79622d32u
#define SALSA20_SIGMA3 0x6b206574u

#define SALSA20_ROTATE(x, n) (((x) << (n)) | ((x) >> (32 - (n))))

#define SALSA20_STEP(to, a, b, n) do {			\
	__u32 sum = (a) + (b);				\
	(to) ^= SALSA20_ROTATE(sum, n);			\
} while (0)

#define SALSA20_QUARTER_ROUND(a, b, c, d) do {		\
	SALSA20_STEP(b, a, d, 7);			\
	SALSA20_STEP(c, b, a, 9);			\
	SALSA20_STEP(d, c, b, 13);			\
	SALSA20_STEP(a, d, c, 18);			\
} while (0)

/* Columns, then rows. */
#define SALSA20_DOUBLE_ROUND(x) do {				\
	SALSA20_QUARTER_ROUND(x[0], x[4], x[8], x[12]);		\
	SALSA20_QUARTER_ROUND(x[5], x[9], x[13], x[1]);		\
	SALSA20_QUARTER_ROUND(x[10], x[14], x[2], x[6]);	\
	SALSA20_QUARTER_ROUND(x[15], x[3], x[7], x[11]);	\
	SALSA20_QUARTER_ROUND(x[0], x[1], x[2], x[3]);		\
	SALSA20_QUARTER_ROUND(x[5], x[6], x[7], x[4]);		\
	SALSA20_QUARTER_ROUND(x[10], x[11], x[8], x[9]);	\
	SALSA20_QUARTER_ROUND(x[15], x[12], x[13], x[14]);	\
} while (0)

/* The input matrix: constants on the diagonal, key around, `input` (nonce and
 * block counter, or HSalsa20's sixteen bytes) in words 6 to 9. */
static __always_inline void salsa20_matrix(__u32 x[SALSA20_WORDS],
					   const __u32 key[8], __u32 input0,
					   __u32 input1, __u32 input2,
					   __u32 input3)
{
	x[0] = SALSA20_SIGMA0;
	x[1] = key[0];
	x[2] = key[1];
	x[3] = key[2];
	x[4] = key[3];
	x[5] = SALSA20_SIGMA1;
	x[6] = input0;
	x[7] = input1;
	x[8] = input2;
	x[9] = input3;
	x[10] = SALSA20_SIGMA2;
	x[11] = key[4];
	x[12] = key[5];
	x[13] = key[6];
	x[14] = key[7];
	x[15] = SALSA20_SIGMA3;
}

static __always_inline void salsa20_rounds(__u32 x[SALSA20_WORDS])
{
	int round;

#pragma clang loop unroll(disable)
	for (round = 0; round < SALSA20_DOUBLE_ROUNDS; round++)
		SALSA20_DOUBLE_ROUND(x);
}

/* What all blocks of one message share: the steps of the first two rounds that
 * do not depend on the block counter. */
struct salsa20_start {
	__u32 x[SALSA20_START_WORDS]; /* [16]: word 4 between column and row round */
};

static __always_inline void salsa20_start(struct salsa20_start *start,
					  const __u32 key[8], __u64 nonce)
{
	__u32 *x = start->x;

	salsa20_matrix(x, key, (__u32)nonce, (__u32)(nonce >> 32), 0, 0);
	/* Columns: the first waits for the counter (word 8) after two steps. */
	SALSA20_STEP(x[4], x[0], x[12], 7);
	SALSA20_STEP(x[8], x[4], x[0], 9);
	SALSA20_QUARTER_ROUND(x[5], x[9], x[13], x[1]);
	SALSA20_QUARTER_ROUND(x[10], x[14], x[2], x[6]);
	SALSA20_QUARTER_ROUND(x[15], x[3], x[7], x[11]);
	/* Rows: the second whole, the third's first step. */
	x[16] = x[4];
	SALSA20_QUARTER_ROUND(x[5], x[6], x[7], x[4]);
	SALSA20_STEP(x[11], x[10], x[9], 7);
}

/* text ^= keystream block `counter` of (key, nonce), whose start is given. The
 * counter is 64 bits in Salsa20; texts here end far below 2^32 blocks. */
static __always_inline void salsa20_xor_block(__u32 text[SALSA20_WORDS],
					      const struct salsa20_start *start,
					      const __u32 key[8], __u64 nonce,
					      __u32 counter)
{
	__u32 x[SALSA20_START_WORDS];
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < SALSA20_START_WORDS; i++)
		x[i] = start->x[i];
	x[8] ^= counter; /* all that has happened to it is one xor */
	salsa20_rounds_scheduled(x);
	text[0] ^= x[0] + SALSA20_SIGMA0;
	text[1] ^= x[1] + key[0];
	text[2] ^= x[2] + key[1];
	text[3] ^= x[3] + key[2];
	text[4] ^= x[4] + key[3];
	text[5] ^= x[5] + SALSA20_SIGMA1;
	text[6] ^= x[6] + (__u32)nonce;
	text[7] ^= x[7] + (__u32)(nonce >> 32);
	text[8] ^= x[8] + counter;
	text[9] ^= x[9];
	text[10] ^= x[10] + SALSA20_SIGMA2;
	text[11] ^= x[11] + key[4];
	text[12] ^= x[12] + key[5];
	text[13] ^= x[13] + key[6];
	text[14] ^= x[14] + key[7];
	text[15] ^= x[15] + SALSA20_SIGMA3;
}

/* HSalsa20: what libsodium calls crypto_core_hsalsa20 with no constant given. */
struct hsalsa20 {
	__u32 key[8];
	__u32 input[4];
	__u32 output[8];
};

__noinline int hsalsa20(struct hsalsa20 *work)
{
	__u32 x[SALSA20_WORDS];

	if (!work)
		return -1;
	salsa20_matrix(x, work->key, work->input[0], work->input[1],
		       work->input[2], work->input[3]);
	salsa20_rounds(x);
	work->output[0] = x[0];
	work->output[1] = x[5];
	work->output[2] = x[10];
	work->output[3] = x[15];
	work->output[4] = x[6];
	work->output[5] = x[7];
	work->output[6] = x[8];
	work->output[7] = x[9];
	return 0;
}

#endif
