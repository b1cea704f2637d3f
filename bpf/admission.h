/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Which messages of an exchange reach the daemon. docs/protocol.md: Exchange.
 *
 *	INITIATION	mac1 under one of our keys; then a token of its source's
 *			bucket and one of the host's. Once these are empty mac2,
 *			which shows that the sender receives what is sent to its
 *			address, opens a second pair of buckets.
 *	RESPONSE	for an INITIATION of ours that waits; mac1; its bucket.
 *	COOKIE		for one that waits (it has no mac1); its bucket.
 *
 * Nothing is charged before mac1 fits: whoever cannot make it takes nothing from
 * anybody. Sources that are a peer's have buckets of the host apart from all
 * others', so strangers take nothing from them.
 *
 * The daemon repeats every check but the buckets of sources that have shown nothing
 * and those of answers: fragments come to it through the stack.
 */
#ifndef BRINE_ADMISSION_H
#define BRINE_ADMISSION_H

#include "admission_maps.h"
#include "blake2b.h"
#include "budget.h"
#include "key.h"
#include "open_parse.h"

/* The daemon spends 0.2 to 0.5 ms of a CPU on an INITIATION whose sender is not in
 * the roster, about 2 ms if it is and an association comes of it, 0.1 ms to answer
 * with a COOKIE. Its own buckets (brine/daemon/admission.py) are smaller than those
 * of senders who have shown nothing, so that some of these learn a cookie. */
enum admission_rate {
	/* A peer sends one a second at most; several may share an address. */
	ADMISSION_SOURCE_MS = 125,
	ADMISSION_SOURCE_BURST = 16,
	/* A fleet that restarts as one is no attack. */
	ADMISSION_LISTED_MS = 2,
	ADMISSION_LISTED_BURST = 1024,
	/* Peers that roam, or sit behind a translator. */
	ADMISSION_STRANGERS_MS = 5,
	ADMISSION_STRANGERS_BURST = 256,
	/* With mac2. Those who receive at many addresses still get no more. */
	ADMISSION_SHOWN_LISTED_MS = 5,
	ADMISSION_SHOWN_LISTED_BURST = 128,
	ADMISSION_SHOWN_STRANGERS_MS = 20,
	ADMISSION_SHOWN_STRANGERS_BURST = 64,
	/* One answer is due to each INITIATION. The others are for forgeries that
	 * come first, made by one who saw its index. */
	ADMISSION_ANSWER_MS = 1000,
	ADMISSION_ANSWER_BURST = 4,
};

enum admission_size {
	ADMISSION_BLOCKS = 11, /* of BLAKE2b: the longest text that a mac covers */
	ADMISSION_MAC1_INITIATION = __builtin_offsetof(struct message_initiation, mac1),
	ADMISSION_MAC2_INITIATION = __builtin_offsetof(struct message_initiation, mac2),
	ADMISSION_MAC1_RESPONSE = __builtin_offsetof(struct message_response, mac1),
};

_Static_assert(ADMISSION_MAC2_INITIATION <= ADMISSION_BLOCKS * BLAKE2B_BLOCK, "blocks");

struct admission_area {
	struct blake2b hash;
	__u64 given[MAC_SIZE / sizeof(__u64)]; /* the message's mac */
	__u64 cookie[COOKIE_SIZE / sizeof(__u64)]; /* of the packet's source */
	struct address source; /* as a key of `sources` */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct admission_area);
} admission_areas SEC(".maps");

/* Go on with `length` bytes of the packet from `at`, to the end of the text. 0, or
 * -1 if they are not there. */
__noinline int admission_hash(struct xdp_md *ctx, struct blake2b *hash, __u32 at,
			      __u32 length)
{
	__u64 part;
	int i;

	if (!hash)
		return -1;
#pragma clang loop unroll(disable)
	for (i = 0; i < ADMISSION_BLOCKS; i++) {
		if (length > BLAKE2B_BLOCK) {
			if (bpf_xdp_load_bytes(ctx, at, hash->block, BLAKE2B_BLOCK))
				return -1;
			blake2b_block(hash, BLAKE2B_BLOCK, 0);
			length -= BLAKE2B_BLOCK;
			at += BLAKE2B_BLOCK;
			continue;
		}
		part = length;
		/* The compiler knows that this changes nothing; the verifier,
		 * which does not, must see it. */
		barrier_var(part);
		part = ((part - 1) & (BLAKE2B_BLOCK - 1)) + 1;
		overwrite(hash->block, sizeof(hash->block));
		if (bpf_xdp_load_bytes(ctx, at, hash->block, part))
			return -1;
		blake2b_block(hash, part, 1);
		return 0;
	}
	return -1;
}

/* 0 if the hash begins with the mac given, else -1; all of it is compared. */
__noinline int admission_compare(const struct admission_area *area)
{
	if (!area)
		return -1;
	return -(int)any_bit((area->hash.state[0] ^ area->given[0]) |
			     (area->hash.state[1] ^ area->given[1]));
}

/* The mac that follows on `length` bytes of the message at `at`. */
static __always_inline int admission_given(struct xdp_md *ctx,
					   struct admission_area *area, __u32 at,
					   __u32 length)
{
	return bpf_xdp_load_bytes(ctx, at + length, area->given, MAC_SIZE);
}

/* 0 if mac1, behind `length` bytes of the message, was made with one of our keys. */
static __always_inline int admission_mac1(struct xdp_md *ctx,
					  struct admission_area *area, __u32 at,
					  __u32 length)
{
	struct mac1_key *key;
	__u32 slot, number;

	if (admission_given(ctx, area, at, length))
		return -1;
#pragma clang loop unroll(disable)
	for (slot = 0; slot < MAC1_KEYS; slot++) {
		number = slot;
		key = bpf_map_lookup_elem(&mac1_keys, &number);
		if (!key || !key->used)
			continue;
		blake2b_start_keyed(&area->hash, MAC_SIZE,
				    (const struct key_words *)key->key);
		if (admission_hash(ctx, &area->hash, at, length))
			return -1;
		if (!admission_compare(area))
			return 0;
	}
	return -1;
}

/* 0 if mac2 of the INITIATION shows the cookie of the packet's source. */
static __always_inline int admission_mac2(struct xdp_md *ctx,
					  struct admission_area *area,
					  const struct open_packet *packet, __u32 at)
{
	struct cookie_secret *secret;
	__u32 zero = 0;

	secret = bpf_map_lookup_elem(&cookie_secrets, &zero);
	if (!secret || packet->now >= secret->not_after ||
	    admission_given(ctx, area, at, ADMISSION_MAC2_INITIATION) ||
	    !(area->given[0] | area->given[1]))
		return -1;
	blake2b_start_keyed(&area->hash, COOKIE_SIZE,
			    (const struct key_words *)secret->secret);
	overwrite(area->hash.block, sizeof(area->hash.block));
	__builtin_memcpy(area->hash.block, &packet->source, sizeof(packet->source));
	area->hash.block[2] = packet->source_port; /* in network order as it lies */
	blake2b_block(&area->hash, sizeof(packet->source) + sizeof(packet->source_port),
		      1);
	area->cookie[0] = area->hash.state[0];
	area->cookie[1] = area->hash.state[1];

	blake2b_start(&area->hash, MAC_SIZE, COOKIE_SIZE);
	overwrite(area->hash.block, sizeof(area->hash.block));
	area->hash.block[0] = area->cookie[0];
	area->hash.block[1] = area->cookie[1];
	blake2b_block(&area->hash, BLAKE2B_BLOCK, 0);
	if (admission_hash(ctx, &area->hash, at, ADMISSION_MAC2_INITIATION))
		return -1;
	return admission_compare(area);
}

/* The buckets of the packet's source. Whoever has one IPv6 address has the /64
 * around it. */
static __always_inline struct source *admission_source(struct admission_area *area,
							const struct open_packet *packet)
{
	struct source fresh = {}, *found;

	area->source = packet->source;
	if (!address_is4(&area->source))
		overwrite(area->source.bytes + 8, 8);
	found = bpf_map_lookup_elem(&sources, &area->source);
	if (found)
		return found;
	bpf_map_update_elem(&sources, &area->source, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&sources, &area->source);
}

/* An INITIATION whose mac1 fits: STAT_OPEN_PASS_EXCHANGE, or why not. */
static __always_inline int admission_buckets(struct xdp_md *ctx,
					     struct admission_area *area,
					     const struct open_packet *packet,
					     __u32 at)
{
	struct endpoint from = { .address = packet->source };
	int listed = bpf_map_lookup_elem(&endpoints, &from) != 0;
	__u32 number = listed ? BUDGET_LISTED : BUDGET_STRANGERS;
	__u32 each = listed ? ADMISSION_LISTED_MS : ADMISSION_STRANGERS_MS;
	__u32 burst = listed ? ADMISSION_LISTED_BURST : ADMISSION_STRANGERS_BURST;
	int reason = STAT_OPEN_LIMITED_HOST;
	struct source *source;
	__u64 *host;

	host = bpf_map_lookup_elem(&budgets, &number);
	if (!host)
		return STAT_OPEN_ERROR;
	/* With the host's bucket empty the source's is left alone: so a flood from
	 * many addresses adds no more of them to `sources` than the host admits, and
	 * each stays there for longer than its bucket takes to fill again. */
	if (budget_left(host, packet->now, each, burst)) {
		source = admission_source(area, packet);
		if (!source)
			return STAT_OPEN_ERROR;
		if (!budget_spend(&source->spent, packet->now, ADMISSION_SOURCE_MS,
				  ADMISSION_SOURCE_BURST))
			reason = STAT_OPEN_LIMITED_SOURCE;
		else if (budget_spend(host, packet->now, each, burst))
			return STAT_OPEN_PASS_EXCHANGE;
	}
	if (admission_mac2(ctx, area, packet, at))
		return reason;

	number = listed ? BUDGET_SHOWN_LISTED : BUDGET_SHOWN_STRANGERS;
	each = listed ? ADMISSION_SHOWN_LISTED_MS : ADMISSION_SHOWN_STRANGERS_MS;
	burst = listed ? ADMISSION_SHOWN_LISTED_BURST : ADMISSION_SHOWN_STRANGERS_BURST;
	host = bpf_map_lookup_elem(&budgets, &number);
	source = admission_source(area, packet);
	if (!host || !source)
		return STAT_OPEN_ERROR;
	if (!budget_spend(&source->shown, packet->now, ADMISSION_SOURCE_MS,
			  ADMISSION_SOURCE_BURST))
		return STAT_OPEN_LIMITED_SOURCE;
	if (!budget_spend(host, packet->now, each, burst))
		return STAT_OPEN_LIMITED_HOST;
	return STAT_OPEN_PASS_EXCHANGE;
}

/* A message of the exchange, of its exact length. `receiver` is the index that an
 * answer names. Returns STAT_OPEN_PASS_EXCHANGE, or the reason to drop. */
__noinline int admission(struct xdp_md *ctx, const struct open_packet *packet,
			 __u32 type, __u32 receiver)
{
	struct admission_area *area;
	struct awaited *waits;
	__u32 zero = 0, at;

	area = bpf_map_lookup_elem(&admission_areas, &zero);
	if (!area || !packet)
		return STAT_OPEN_ERROR;
	at = packet->udp + UDP_HEADER;
	if (type == MESSAGE_INITIATION) {
		if (admission_mac1(ctx, area, at, ADMISSION_MAC1_INITIATION))
			return STAT_OPEN_MAC1;
		return admission_buckets(ctx, area, packet, at);
	}
	waits = bpf_map_lookup_elem(&awaited, &receiver);
	if (!waits)
		return STAT_OPEN_UNAWAITED;
	if (type == MESSAGE_RESPONSE &&
	    admission_mac1(ctx, area, at, ADMISSION_MAC1_RESPONSE))
		return STAT_OPEN_MAC1;
	if (!budget_spend(type == MESSAGE_RESPONSE ? &waits->responses : &waits->cookies,
			  packet->now, ADMISSION_ANSWER_MS, ADMISSION_ANSWER_BURST))
		return STAT_OPEN_LIMITED_ANSWER;
	return STAT_OPEN_PASS_EXCHANGE;
}

/* Messages of the exchange, of their exact length, go to the daemon's socket if
 * they are admitted, and it would not answer into the mesh. Their first word is the
 * type and zeros. */
static __always_inline int open_exchange(struct xdp_md *ctx,
					 const struct open_packet *packet,
					 const struct message_data *data, __u32 size)
{
	__u32 type = *(const __u32 *)data, receiver = data->receiver;
	int reason = STAT_OPEN_MALFORMED;

	_Static_assert(__builtin_offsetof(struct message_cookie, receiver) ==
			       __builtin_offsetof(struct message_data, receiver) &&
		       __builtin_offsetof(struct message_response, receiver) ==
			       __builtin_offsetof(struct message_data, counter),
		       "receiver");
	if (type == MESSAGE_RESPONSE)
		receiver = (__u32)data->counter;
	if (open_plaintext(packet))
		reason = STAT_OPEN_PLAINTEXT;
	else if ((type == MESSAGE_INITIATION &&
		  size == sizeof(struct message_initiation)) ||
		 (type == MESSAGE_RESPONSE &&
		  size == sizeof(struct message_response)) ||
		 (type == MESSAGE_COOKIE && size == sizeof(struct message_cookie)))
		reason = admission(ctx, packet, type, receiver);
	stat_count(reason, size);
	return reason == STAT_OPEN_PASS_EXCHANGE ? XDP_PASS : XDP_DROP;
}

#endif
