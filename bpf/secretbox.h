/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * XSalsa20-Poly1305, byte for byte NaCl's crypto_secretbox, given the sub-key
 * that HSalsa20 made of the key and the nonce's first sixteen bytes: those are
 * constant per box, so the packet path never sees them.
 *
 * NaCl prefixes the text with 32 zero bytes; the keystream that falls on them
 * is the Poly1305 key. The work area has the same shape: `mac_key` and `text`
 * are one run of 64-byte blocks.
 */
#ifndef BRINE_SECRETBOX_H
#define BRINE_SECRETBOX_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "key.h"
#include "poly1305.h"
#include "salsa20.h"

enum secretbox_size {
	SECRETBOX_TEXT_MAX = 9216,
	SECRETBOX_BUFFER = 16384, /* a power of two: bounds by a mask */
	SECRETBOX_SLACK = 64, /* behind the buffer, for an event's header */
	SECRETBOX_BLOCKS_MAX = (32 + SECRETBOX_TEXT_MAX + 63) / 64,
	SECRETBOX_GROUP = POLY1305_UNROLL * POLY1305_BLOCK,
};

/* One per CPU and program: both run with soft interrupts off, so that no other
 * packet of that CPU comes in between, and they do not share an area. */
struct secretbox {
	__u32 subkey[8];
	__u64 nonce; /* the nonce's last eight bytes */
	__u32 tag[4];
	struct poly1305 mac;
	struct salsa20_start start;
	__u32 rest[8]; /* secretbox_verify: the keystream's bytes 32 to 63 */
	__u32 mac_key[8]; /* on a multiple of eight */
	__u8 text[SECRETBOX_BUFFER + SECRETBOX_SLACK];
};

struct secretbox_loop {
	struct secretbox *work;
	__u32 first; /* where the loop begins: a byte of text, or a block */
};

static long secretbox_xor_callback(__u64 block, struct secretbox_loop *loop)
{
	struct secretbox *work = loop->work;

	block += loop->first;
	if (block >= SECRETBOX_BLOCKS_MAX)
		return 1;
	salsa20_xor_block((__u32 *)((__u8 *)work->mac_key + block * SALSA20_BLOCK),
			  &work->start, work->subkey, work->nonce, block);
	return 0;
}

static long secretbox_group_callback(__u64 group, struct secretbox_loop *loop)
{
	struct secretbox *work = loop->work;

	if (group >= SECRETBOX_TEXT_MAX / SECRETBOX_GROUP)
		return 1;
	poly1305_blocks(&work->mac,
			(__u32 *)(work->text + group * SECRETBOX_GROUP),
			POLY1305_UNROLL);
	return 0;
}

static long secretbox_block_callback(__u64 block, struct secretbox_loop *loop)
{
	struct secretbox *work = loop->work;
	__u64 at = loop->first + block * POLY1305_BLOCK;

	if (at >= SECRETBOX_TEXT_MAX)
		return 1;
	poly1305_blocks(&work->mac, (__u32 *)(work->text + at), 1);
	return 0;
}

/* work->tag = Poly1305 of text[0..length) under mac_key. Overwrites up to
 * fifteen bytes behind the text. */
static __always_inline void secretbox_mac(struct secretbox_loop *loop,
					  __u32 length, __u32 tag[4])
{
	struct secretbox *work = loop->work;
	__u32 groups = length / SECRETBOX_GROUP;
	__u32 blocks = (length % SECRETBOX_GROUP) / POLY1305_BLOCK;
	__u32 rest = length % POLY1305_BLOCK;
	__u32 i;

	poly1305_init(&work->mac, work->mac_key);
	bpf_loop(groups, secretbox_group_callback, loop, 0);
	if (blocks) {
		loop->first = groups * SECRETBOX_GROUP;
		bpf_loop(blocks, secretbox_block_callback, loop, 0);
	}
	if (rest) {
		/* Both below SECRETBOX_TEXT_MAX + 16; the masks tell the verifier. */
		__u64 last = (length - rest) & (SECRETBOX_BUFFER - 1);
		__u64 end = length & (SECRETBOX_BUFFER - 1);

		if (last > SECRETBOX_TEXT_MAX || end > SECRETBOX_TEXT_MAX)
			return;
		work->text[end] = 1;
		for (i = 1; i < POLY1305_BLOCK; i++)
			work->text[end + i] = 0;
		poly1305_last(&work->mac, (__u32 *)(work->text + last));
	}
	poly1305_tag(&work->mac, tag);
}

static __always_inline void secretbox_clear_mac_key(struct secretbox *work)
{
	int i;

	for (i = 0; i < 8; i++)
		work->mac_key[i] = 0;
}

/* Seal text[0..length) in place and set the tag. Returns 0, or -1 if the
 * length is over SECRETBOX_TEXT_MAX. */
__noinline int secretbox_seal(struct secretbox *work, __u32 length)
{
	struct secretbox_loop loop = { .work = work };

	if (!work || length > SECRETBOX_TEXT_MAX)
		return -1;
	salsa20_start(&work->start, work->subkey, work->nonce);
	secretbox_clear_mac_key(work);
	bpf_loop((32 + length + SALSA20_BLOCK - 1) / SALSA20_BLOCK,
		 secretbox_xor_callback, &loop, 0);
	secretbox_mac(&loop, length, work->tag);
	return 0;
}

/* Returns 0 if `tag` authenticates the ciphertext text[0..length), else -1.
 * Takes the same time for every wrong tag. */
__noinline int secretbox_verify(struct secretbox *work, __u32 length)
{
	struct secretbox_loop loop = { .work = work };
	__u32 x[SALSA20_WORDS] = {}, tag[4], difference;
	int i;

	if (!work || length > SECRETBOX_TEXT_MAX)
		return -1;
	/* Block 0 alone: its first half is the key, the other half waits for
	 * secretbox_decrypt, which comes only after the tag has verified. */
	salsa20_start(&work->start, work->subkey, work->nonce);
	salsa20_xor_block(x, &work->start, work->subkey, work->nonce, 0);
	for (i = 0; i < 8; i++) {
		work->mac_key[i] = x[i];
		work->rest[i] = x[i + 8];
	}
	secretbox_mac(&loop, length, tag);
	difference = (tag[0] ^ work->tag[0]) | (tag[1] ^ work->tag[1]) |
		     (tag[2] ^ work->tag[2]) | (tag[3] ^ work->tag[3]);
	return -(int)any_bit(difference);
}

/* Decrypt text[0..length) in place. Only after secretbox_verify. */
__noinline int secretbox_decrypt(struct secretbox *work, __u32 length)
{
	struct secretbox_loop loop = { .work = work, .first = 1 };
	__u32 *text;
	int i;

	if (!work || length > SECRETBOX_TEXT_MAX)
		return -1;
	text = (__u32 *)work->text;
	for (i = 0; i < 8; i++) /* behind a shorter text: scratch */
		text[i] ^= work->rest[i];
	bpf_loop((32 + length + SALSA20_BLOCK - 1) / SALSA20_BLOCK - 1,
		 secretbox_xor_callback, &loop, 0);
	return 0;
}

/* Overwrite what a packet leaves of keys: all but the tag. Its text stays until
 * the next one. */
static __always_inline void secretbox_forget(struct secretbox *work)
{
	__builtin_memset(work->subkey, 0, sizeof(work->subkey));
	__builtin_memset(&work->mac, 0,
			 __builtin_offsetof(struct secretbox, text) -
				 __builtin_offsetof(struct secretbox, mac));
	asm volatile("" : : "r"(work) : "memory"); /* keeps the wipe */
}

#endif
