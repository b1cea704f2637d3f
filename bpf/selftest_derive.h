/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Programs that run X25519, BLAKE2b and the derivation on given bytes: see
 * selftest.h. Callers take turns, as the work area is one.
 */
#ifndef BRINE_SELFTEST_DERIVE_H
#define BRINE_SELFTEST_DERIVE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "derive.h"

enum selftest_derive_size {
	SELFTEST_TEXT = 2048,
};

struct selftest_derive_area {
	struct derive derive;
	struct header_tag header_tag;
	struct blake2b blake2b;
	struct key_words own_private, own_public, peer_public, secret;
	__u8 key[BLAKE2B_BLOCK]; /* selftest_blake2b: zeros behind the key */
	__u8 text[SELFTEST_TEXT]; /* and behind the text */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct selftest_derive_area);
} selftest_derive_work SEC(".maps");

static __always_inline struct selftest_derive_area *selftest_derive_area(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&selftest_derive_work, &zero);
}

struct selftest_x25519 {
	struct key_words private;
	struct key_words public;
	struct key_words shared; /* out */
	__s32 result; /* out: enum x25519_result */
	__u32 reserved;
};

SEC("syscall")
int selftest_x25519(struct selftest_x25519 *request)
{
	struct selftest_derive_area *area = selftest_derive_area();

	if (!area)
		return 1;
	area->own_private = request->private;
	area->peer_public = request->public;
	request->result = x25519(&area->derive.x25519, &area->own_private,
				 &area->peer_public);
	request->shared = area->derive.x25519.shared;
	return 0;
}

struct selftest_blake2b {
	__u32 digest_bytes;
	__u32 key_bytes;
	__u32 text_bytes; /* key and text are in `selftest_derive_work` */
	__s32 result; /* out: 0, or -1 if a length is out of range */
	__u8 digest[BLAKE2B_DIGEST_MAX]; /* out: all of the state */
};

struct selftest_blake2b_loop {
	struct selftest_derive_area *area;
	__u32 text_bytes;
};

static long selftest_blake2b_callback(__u64 number,
				      struct selftest_blake2b_loop *loop)
{
	struct selftest_derive_area *area = loop->area;
	__u64 at = number * BLAKE2B_BLOCK, left = loop->text_bytes - at;
	const __u64 *text;
	int i;

	if (at > SELFTEST_TEXT - BLAKE2B_BLOCK)
		return 1;
	text = (const __u64 *)(area->text + at);
	for (i = 0; i < BLAKE2B_BLOCK_WORDS; i++)
		area->blake2b.block[i] = text[i];
	if (left > BLAKE2B_BLOCK)
		blake2b_block(&area->blake2b, BLAKE2B_BLOCK, 0);
	else
		blake2b_block(&area->blake2b, left, 1);
	return 0;
}

SEC("syscall")
int selftest_blake2b(struct selftest_blake2b *request)
{
	struct selftest_blake2b_loop loop = { .area = selftest_derive_area() };
	__u32 digest = request->digest_bytes, key = request->key_bytes;
	__u32 text = request->text_bytes;
	struct blake2b *hash;
	int i;

	if (!loop.area)
		return 1;
	request->result = -1;
	if (digest < 1 || digest > BLAKE2B_DIGEST_MAX || key > BLAKE2B_KEY_MAX ||
	    text > SELFTEST_TEXT)
		return 0;
	loop.text_bytes = text;
	hash = &loop.area->blake2b;
	blake2b_start(hash, digest, key);
	if (key) {
		for (i = 0; i < BLAKE2B_BLOCK_WORDS; i++)
			hash->block[i] = ((__u64 *)loop.area->key)[i];
		blake2b_block(hash, BLAKE2B_BLOCK, !text);
	}
	if (text)
		bpf_loop((text + BLAKE2B_BLOCK - 1) / BLAKE2B_BLOCK,
			 selftest_blake2b_callback, &loop, 0);
	else if (!key)
		selftest_blake2b_callback(0, &loop);
	for (i = 0; i < BLAKE2B_STATE_WORDS; i++)
		((__u64 *)request->digest)[i] = hash->state[i];
	request->result = 0;
	return 0;
}

struct selftest_derive {
	struct key_words own_private;
	struct key_words own_public;
	struct key_words peer_public;
	struct key_words secret;
	__u32 sending; /* 1: we are the sender, else the peer is */
	__u32 generations; /* sender's, and receiver's << 8 */
	__u32 dh_given; /* 1: take `dh` instead of computing it */
	__s32 result; /* out: enum derive_result; the rest is valid if it is done */
	struct key_words dh; /* out, or in */
	__u64 box[DERIVE_BOX_WORDS]; /* out: K || N */
	__u32 subkey[DERIVE_SUBKEY_WORDS]; /* out */
};

SEC("syscall")
int selftest_derive(struct selftest_derive *request)
{
	struct selftest_derive_area *area = selftest_derive_area();
	int i;

	if (!area)
		return 1;
	area->own_private = request->own_private;
	area->own_public = request->own_public;
	area->peer_public = request->peer_public;
	area->secret = request->secret;
	request->result = DERIVE_DONE;
	if (request->dh_given)
		area->derive.dh = request->dh;
	else
		request->result = derive_dh(&area->derive, &area->own_private,
					    &area->own_public, &area->peer_public);
	if (!request->result) {
		if (request->sending)
			derive_box(&area->derive, &area->secret, &area->own_public,
				   &area->peer_public, request->generations);
		else
			derive_box(&area->derive, &area->secret, &area->peer_public,
				   &area->own_public, request->generations);
		request->dh = area->derive.dh;
		for (i = 0; i < DERIVE_BOX_WORDS; i++)
			request->box[i] = area->derive.box[i];
		for (i = 0; i < DERIVE_SUBKEY_WORDS; i++)
			request->subkey[i] = area->derive.subkey[i];
	}
	derive_wipe(&area->derive);
	return 0;
}

struct selftest_header_tag {
	struct key_words header_key;
	__u64 header[DERIVE_HEADER_WORDS];
	struct key_words key;
	__u64 tag; /* out */
};

SEC("syscall")
int selftest_header_tag(struct selftest_header_tag *request)
{
	struct selftest_derive_area *area = selftest_derive_area();

	if (!area)
		return 1;
	area->secret = request->header_key;
	area->header_tag.header[0] = request->header[0];
	area->header_tag.header[1] = request->header[1];
	area->header_tag.key = request->key;
	header_tag(&area->header_tag, &area->secret);
	request->tag = area->header_tag.tag;
	return 0;
}

#endif
