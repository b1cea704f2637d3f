/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From keys to boxes: the formulas of docs/protocol.md, Boxes.
 *
 *	dh         = HSalsa20(X25519(own private, peer public), 0)
 *	K || N     = BLAKE2b-384(key A, "brine/1 box" || sgen || rgen || dh || P_sender || P_receiver)
 *	sub-key    = HSalsa20(K, N)
 *	header_tag = BLAKE2b-64(key header key, header[16] || key[32])
 *
 * Both directions of a pair share dh: derive_dh once, derive_box twice.
 *
 * The work area is a parameter: each hook brings its own, and keeps others of its
 * kind on that CPU out while it runs. Arguments may lie in the area or outside.
 */
#ifndef BRINE_DERIVE_H
#define BRINE_DERIVE_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "blake2b.h"
#include "key.h"
#include "salsa20.h"
#include "x25519.h"

enum derive_result {
	DERIVE_DONE = 0,
	DERIVE_LOW_ORDER = 1, /* the peer's key makes X25519 all zeros */
	DERIVE_OWN_KEY = 2, /* the peer's key is our own: a reflection */
};

enum derive_size {
	DERIVE_BOX_BYTES = 32 + 16, /* K || N */
	DERIVE_BOX_WORDS = DERIVE_BOX_BYTES / 8,
	DERIVE_SUBKEY_WORDS = 8,
	DERIVE_LABEL_BYTES = 11,
	DERIVE_TEXT_BYTES = DERIVE_LABEL_BYTES + 2 + 3 * 32,
	DERIVE_HEADER_TAG_BYTES = 8,
	DERIVE_HEADER_WORDS = 2,
};

struct derive {
	__u32 subkey[DERIVE_SUBKEY_WORDS]; /* out of derive_box */
	/* The rest is scratch until derive_wipe. */
	struct key_words dh; /* from derive_dh to derive_box */
	__u64 box[DERIVE_BOX_WORDS]; /* K || N, of the last derive_box */
	struct hsalsa20 hsalsa20;
	struct x25519 x25519;
	struct blake2b blake2b;
};

static __always_inline void derive_hsalsa20(struct derive *work,
					    const __u64 key[4],
					    const __u64 input[2])
{
	int i;

	for (i = 0; i < 4; i++) {
		work->hsalsa20.key[2 * i] = key[i];
		work->hsalsa20.key[2 * i + 1] = key[i] >> 32;
	}
	for (i = 0; i < 2; i++) {
		work->hsalsa20.input[2 * i] = input[i];
		work->hsalsa20.input[2 * i + 1] = input[i] >> 32;
	}
	hsalsa20(&work->hsalsa20);
}

/* work->dh of our private and the peer's public key: NaCl's crypto_box_beforenm.
 * Returns an enum derive_result, or -1 without an argument. */
__noinline int derive_dh(struct derive *work, const struct key_words *own_private,
			 const struct key_words *own_public,
			 const struct key_words *peer_public)
{
	const __u64 zero[2] = {};
	__u64 difference = 0;
	int i;

	if (!work || !own_private || !own_public || !peer_public)
		return -1;
	for (i = 0; i < KEY_WORDS; i++)
		difference |= own_public->word[i] ^ peer_public->word[i];
	if (!difference)
		return DERIVE_OWN_KEY;
	if (x25519(&work->x25519, own_private, peer_public))
		return DERIVE_LOW_ORDER;
	derive_hsalsa20(work, work->x25519.shared.word, zero);
	for (i = 0; i < KEY_WORDS; i++)
		work->dh.word[i] = work->hsalsa20.output[2 * i] |
				   (__u64)work->hsalsa20.output[2 * i + 1] << 32;
	return DERIVE_DONE;
}

/* Four words to `at`, which is a multiple of eight and five more: the label and
 * both generations before the keys are 13 bytes. */
static __always_inline void derive_place(__u64 *block, __u32 at,
					 const struct key_words *key)
{
	__u32 i = at / 8;

	block[i] |= key->word[0] << 40;
	block[i + 1] = key->word[0] >> 24 | key->word[1] << 40;
	block[i + 2] = key->word[1] >> 24 | key->word[2] << 40;
	block[i + 3] = key->word[2] >> 24 | key->word[3] << 40;
	block[i + 4] = key->word[3] >> 24;
}

/* work->subkey (and work->box) of the box in which the sender's generation
 * `generations & 0xff` talks to the receiver's, `generations >> 8`. Needs
 * work->dh. Returns DERIVE_DONE, or -1 without an argument. */
__noinline int derive_box(struct derive *work, const struct key_words *secret,
			  const struct key_words *sender_public,
			  const struct key_words *receiver_public,
			  __u32 generations)
{
	struct blake2b *hash;
	int i;

	if (!work || !secret || !sender_public || !receiver_public)
		return -1;
	hash = &work->blake2b;
	blake2b_start_keyed(hash, DERIVE_BOX_BYTES, secret);
	hash->block[0] = 0x20312f656e697262ULL; /* "brine/1 " */
	hash->block[1] = 0x786f62ULL | (__u64)(generations & 0xffff) << 24; /* "box" */
	derive_place(hash->block, DERIVE_LABEL_BYTES + 2, &work->dh);
	derive_place(hash->block, DERIVE_LABEL_BYTES + 2 + 32, sender_public);
	derive_place(hash->block, DERIVE_LABEL_BYTES + 2 + 64, receiver_public);
	/* blake2b_start_keyed left zeros behind */
	blake2b_block(hash, DERIVE_TEXT_BYTES, 1);

	for (i = 0; i < DERIVE_BOX_WORDS; i++)
		work->box[i] = hash->state[i];
	derive_hsalsa20(work, work->box, work->box + KEY_WORDS);
	for (i = 0; i < DERIVE_SUBKEY_WORDS; i++)
		work->subkey[i] = work->hsalsa20.output[i];
	return DERIVE_DONE;
}

/* Overwrite all that was derived, the sub-key too: the caller has copied it. */
__noinline int derive_wipe(struct derive *work)
{
	if (!work)
		return -1;
	overwrite(work, sizeof(*work));
	return 0;
}

/* What a DATA_KEYED packet is checked by before anything costly happens. */
struct header_tag {
	__u64 tag; /* out; as in the packet, byte by byte */
	__u64 header[DERIVE_HEADER_WORDS]; /* in: the packet's first 16 bytes */
	struct key_words key; /* in: the association key that follows them */
	struct blake2b blake2b;
};

/* work->tag. Compare it as the one word it is; that takes equally long for all
 * wrong ones. Returns 0, or -1 without an argument. */
__noinline int header_tag(struct header_tag *work,
			  const struct key_words *header_key)
{
	struct blake2b *hash;
	int i;

	if (!work || !header_key)
		return -1;
	hash = &work->blake2b;
	blake2b_start_keyed(hash, DERIVE_HEADER_TAG_BYTES, header_key);
	hash->block[0] = work->header[0];
	hash->block[1] = work->header[1];
	for (i = 0; i < KEY_WORDS; i++)
		hash->block[2 + i] = work->key.word[i];
	/* blake2b_start_keyed left zeros behind the key, from word 4 on */
	blake2b_block(hash, sizeof(work->header) + sizeof(work->key), 1);
	work->tag = hash->state[0];
	overwrite(hash, sizeof(*hash)); /* only the tag leaves */
	return 0;
}

#endif
