/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A packet of a pair that has no box: the cold side of `open`. The pair is made in
 * the kernel, on reception, if it is legal, and if the peer's key is new only once
 * header_tag vouches for it. So a forged packet costs one keyed hash at most, and a
 * pair one scalar multiplication, once. With CONFIG_PUNT_DERIVATION an event is all
 * that comes of it here, judged and limited alike; the packet is dropped, and the
 * peer repeats it.
 */
#ifndef BRINE_OPEN_PAIR_H
#define BRINE_OPEN_PAIR_H

#include "association.h"
#include "budget.h"
#include "derive.h"
#include "pair.h"
#include "ratchet.h"

struct open_header {
	union {
		struct message_data data;
		struct message_data_keyed keyed;
	};
};

/* A CPU's, apart from `control`'s: packets preempt that. */
struct open_pair_area {
	struct pair pair;
	struct header_tag header_tag;
	struct key_words header_key;
	struct event event; /* and its data */
	struct event_derive derive;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open_pair_area);
} open_pair_areas SEC(".maps");

/* Does the peer vouch for the key that the packet brings? */
static __always_inline int open_header_tag(struct open_pair_area *area,
					   const struct open_header *header,
					   const struct association *association)
{
	struct header_tag *work = &area->header_tag;
	__u64 tag;

	__builtin_memcpy(work->header, &header->keyed, sizeof(work->header));
	__builtin_memcpy(&work->key, header->keyed.key, KEY_SIZE);
	__builtin_memcpy(&area->header_key, association->receive_header_key, KEY_SIZE);
	header_tag(work, &area->header_key);
	overwrite(&area->header_key, sizeof(area->header_key));
	__builtin_memcpy(&tag, header->keyed.header_tag, sizeof(tag));
	return !any_bit(tag ^ work->tag);
}

/* Ask for the pair: the daemon has CONTROL_DERIVE_PAIR make it. */
static __always_inline int open_punt_pair(struct open_pair_area *area,
					  const struct open_header *header,
					  const struct association *association, int keyed)
{
	struct event_derive *derive = &area->derive;

	area->event.kind = EVENT_DERIVE;
	area->event.peer = association->peer;
	area->event.association = area->pair.association;
	area->event.length = sizeof(*derive);
	derive->own_generation = area->pair.own;
	derive->peer_generation = area->pair.peer;
	derive->keyed = keyed;
	derive->reserved = 0;
	derive->instance = area->pair.seen.is.instance;
	derive->reserved2 = 0;
	__builtin_memset(derive->key, 0, KEY_SIZE);
	if (keyed)
		__builtin_memcpy(derive->key, header->keyed.key, KEY_SIZE);
	/* A full ring loses it; the peer announces again. */
	bpf_ringbuf_output(&events, &area->event, sizeof(area->event) + sizeof(*derive), 0);
	return STAT_OPEN_PUNT_PAIR;
}

/* May the pair of the packet `header`, whose ratchet was `seen`, be made here and now?
 * `confirmed`: so is the association. Returns 0 with the CPU's `pair` ready for
 * pair_make, or the reason to drop. */
__noinline int open_judge_pair(const struct open_header *header, __u32 number, __u64 seen,
			       __u32 confirmed, __u64 now)
{
	struct association *association = association_at(number);
	union ratchet_word word = { .all = seen };
	struct open_pair_area *area;
	struct config *settings;
	__u32 zero = 0, own, peer;
	struct box *receive;
	struct pair *pair;
	int next, keyed;

	area = bpf_map_lookup_elem(&open_pair_areas, &zero);
	settings = bpf_map_lookup_elem(&config, &zero);
	if (!header || !association || !area || !settings)
		return STAT_OPEN_ERROR;
	own = header->data.receiver_generation;
	peer = header->data.sender_generation;
	next = peer == word.is.peer_current + 1u;
	keyed = next && confirmed && header->data.type == MESSAGE_DATA_KEYED;
	receive = pair_receive(number, own, peer);
	if (!receive || !pair_claimable(life_read(receive), own, peer) ||
	    !ratchet_legal(association, word, own, peer, keyed, now))
		return STAT_OPEN_NO_BOX;
	if (next && !open_header_tag(area, header, association))
		return STAT_OPEN_HEADER_TAG;
	if (!budget_take(association, now))
		return STAT_OPEN_BUDGET;
	pair = &area->pair;
	pair->seen = word;
	pair->now = now;
	pair->association = number;
	pair->own = own;
	pair->peer = peer;
	if (settings->flags & CONFIG_PUNT_DERIVATION)
		return open_punt_pair(area, header, association, next);
	pair->announced = keyed;
	if (next)
		__builtin_memcpy(&pair->peer_key, header->keyed.key, KEY_SIZE);
	return 0;
}

/* Judge and make it. The two are apart because the stack holds only one of them. */
static __always_inline int open_pair(const struct open_header *header, __u32 number,
				     __u64 seen, __u32 confirmed, __u64 now)
{
	struct open_pair_area *area;
	__u32 zero = 0;
	int result;

	area = bpf_map_lookup_elem(&open_pair_areas, &zero);
	if (!area)
		return STAT_OPEN_ERROR;
	result = open_judge_pair(header, number, seen, confirmed, now);
	if (result)
		return result;
	result = pair_make(&area->pair);
	pair_forget(&area->pair);
	if (result == PAIR_DONE)
		return 0;
	return result == PAIR_FAILED ? STAT_OPEN_BAD_KEY : STAT_OPEN_RACE;
}

#endif
