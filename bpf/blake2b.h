/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * BLAKE2b (RFC 7693), keyed or not, any digest length as its parameter, block by
 * block: the caller fills `block`, so that a text can come from a packet.
 *
 *	blake2b_start(hash, digest bytes, key bytes)
 *	a key: block = key, zeros behind it;  blake2b_block(hash, 128, last)
 *	text:  block = 128 bytes of it;       blake2b_block(hash, 128, 0)
 *	its end, zeros behind it:             blake2b_block(hash, 0..128, 1)
 *
 * The digest is then the first bytes of `state`. The key's block is the last one
 * if there is no text; without either, the last is a block of zeros of 0 bytes.
 *
 * All twelve rounds are written out: the message's words then have constant
 * indices. A loop with the schedule in packed words is a sixth of the code but
 * takes 1.37 times as long, and forged packets are what this hash must stand.
 */
#ifndef BRINE_BLAKE2B_H
#define BRINE_BLAKE2B_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "key.h"

enum blake2b_size {
	BLAKE2B_BLOCK = 128,
	BLAKE2B_BLOCK_WORDS = 16,
	BLAKE2B_STATE_WORDS = 8,
	BLAKE2B_DIGEST_MAX = 64,
	BLAKE2B_KEY_MAX = 64,
};

struct blake2b {
	__u64 block[BLAKE2B_BLOCK_WORDS];
	__u64 state[BLAKE2B_STATE_WORDS];
	__u64 count; /* bytes hashed; RFC 7693 has 128 bits for it */
};

/* The fractions of the first primes' square roots, as SHA-512's */
#define BLAKE2B_IV0 0x6a09e667f3bcc908ULL
#define BLAKE2B_IV1 0xbb67ae8584caa73bULL
#define BLAKE2B_IV2 0x3c6ef372fe94f82bULL
#define BLAKE2B_IV3 0xa54ff53a5f1d36f1ULL
#define BLAKE2B_IV4 0x510e527fade682d1ULL
#define BLAKE2B_IV5 0x9b05688c2b3e6c1fULL
#define BLAKE2B_IV6 0x1f83d9abfb41bd6bULL
#define BLAKE2B_IV7 0x5be0cd19137e2179ULL

#define BLAKE2B_ROTATE(x, n) (((x) >> (n)) | ((x) << (64 - (n))))

/* RFC 7693, section 3.1. The barrier keeps v where it is: or LLVM gives it a second
 * place, and takes 256 bytes of stack instead of 160. */
#define BLAKE2B_MIX(a, b, c, d, x, y) do {			\
	__u64 t;						\
	a += b + (x); t = d ^ a; d = BLAKE2B_ROTATE(t, 32);	\
	c += d;       t = b ^ c; b = BLAKE2B_ROTATE(t, 24);	\
	a += b + (y); t = d ^ a; d = BLAKE2B_ROTATE(t, 16);	\
	c += d;       t = b ^ c; b = BLAKE2B_ROTATE(t, 63);	\
	barrier();						\
} while (0)

/* Columns, then diagonals; the arguments are a line of the schedule SIGMA. */
#define BLAKE2B_ROUND(v, m, s0, s1, s2, s3, s4, s5, s6, s7,		\
		      s8, s9, s10, s11, s12, s13, s14, s15) do {	\
	BLAKE2B_MIX(v[0], v[4], v[8], v[12], m[s0], m[s1]);		\
	BLAKE2B_MIX(v[1], v[5], v[9], v[13], m[s2], m[s3]);		\
	BLAKE2B_MIX(v[2], v[6], v[10], v[14], m[s4], m[s5]);		\
	BLAKE2B_MIX(v[3], v[7], v[11], v[15], m[s6], m[s7]);		\
	BLAKE2B_MIX(v[0], v[5], v[10], v[15], m[s8], m[s9]);		\
	BLAKE2B_MIX(v[1], v[6], v[11], v[12], m[s10], m[s11]);		\
	BLAKE2B_MIX(v[2], v[7], v[8], v[13], m[s12], m[s13]);		\
	BLAKE2B_MIX(v[3], v[4], v[9], v[14], m[s14], m[s15]);		\
} while (0)

/* 1 <= digest_bytes <= 64, key_bytes <= 64: the parameter block of RFC 7693,
 * section 2.5. */
static __always_inline void blake2b_start(struct blake2b *hash,
					  __u32 digest_bytes, __u32 key_bytes)
{
	hash->state[0] = BLAKE2B_IV0 ^ 0x01010000 ^ key_bytes << 8 ^ digest_bytes;
	hash->state[1] = BLAKE2B_IV1;
	hash->state[2] = BLAKE2B_IV2;
	hash->state[3] = BLAKE2B_IV3;
	hash->state[4] = BLAKE2B_IV4;
	hash->state[5] = BLAKE2B_IV5;
	hash->state[6] = BLAKE2B_IV6;
	hash->state[7] = BLAKE2B_IV7;
	hash->count = 0;
}

/* Take `block`, of which `bytes` are text; `last` is 1 for the last, else 0. */
__noinline int blake2b_block(struct blake2b *hash, __u32 bytes, __u32 last)
{
	__u64 v[BLAKE2B_BLOCK_WORDS];
	const __u64 *m;
	int i;

	if (!hash || bytes > BLAKE2B_BLOCK || last > 1)
		return -1;
	m = hash->block;
	hash->count += bytes;
	for (i = 0; i < BLAKE2B_STATE_WORDS; i++)
		v[i] = hash->state[i];
	v[8] = BLAKE2B_IV0;
	v[9] = BLAKE2B_IV1;
	v[10] = BLAKE2B_IV2;
	v[11] = BLAKE2B_IV3;
	v[12] = BLAKE2B_IV4 ^ hash->count;
	v[13] = BLAKE2B_IV5;
	v[14] = BLAKE2B_IV6 ^ (0 - (__u64)last);
	v[15] = BLAKE2B_IV7;

	BLAKE2B_ROUND(v, m, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	BLAKE2B_ROUND(v, m, 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
	BLAKE2B_ROUND(v, m, 11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
	BLAKE2B_ROUND(v, m, 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
	BLAKE2B_ROUND(v, m, 9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
	BLAKE2B_ROUND(v, m, 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
	BLAKE2B_ROUND(v, m, 12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
	BLAKE2B_ROUND(v, m, 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
	BLAKE2B_ROUND(v, m, 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
	BLAKE2B_ROUND(v, m, 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
	BLAKE2B_ROUND(v, m, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	BLAKE2B_ROUND(v, m, 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);

	for (i = 0; i < BLAKE2B_STATE_WORDS; i++)
		hash->state[i] ^= v[i] ^ v[i + 8];
	return 0;
}

/* Start with a key of 32 bytes, as all keys of the protocol but a cookie are. A
 * text must follow. */
static __always_inline void blake2b_start_keyed(struct blake2b *hash,
						__u32 digest_bytes,
						const struct key_words *key)
{
	int i;

	blake2b_start(hash, digest_bytes, sizeof(*key));
#pragma clang loop unroll(full)
	for (i = 0; i < BLAKE2B_BLOCK_WORDS; i++)
		hash->block[i] = i < KEY_WORDS ? key->word[i] : 0;
	blake2b_block(hash, BLAKE2B_BLOCK, 0);
}

#endif
