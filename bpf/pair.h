/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The two boxes of a pair of association keys: made together, from one scalar
 * multiplication, at most once; wiped together.
 *
 * The life of the receiving box is the lock of the pair: whoever swaps it to
 * CLAIMED may write it, its windows, the sending box and its counters, and nobody
 * else may. `open` and `control` both come here, each with a work area of its own.
 * ratchet.h says why at most once.
 */
#ifndef BRINE_PAIR_H
#define BRINE_PAIR_H

#include "association.h"
#include "derive.h"
#include "ratchet.h"

enum pair_result {
	PAIR_DONE = 0,
	PAIR_BUSY = 1, /* another CPU has claimed it, or the ratchet moved meanwhile */
	PAIR_ILLEGAL = 2, /* no pair of the present keys */
	PAIR_FAILED = 3, /* its keys make no box, or made one that expired */
};

struct pair {
	/* in */
	union ratchet_word seen; /* by which the caller found it legal */
	__u64 now;
	__u32 association;
	__u8 own;
	__u8 peer;
	__u8 announced; /* 1: `peer` may be the generation after the adopted one */
	struct key_words peer_key; /* the peer's, if announced and of that generation */
	/* Scratch from here on. */
	__u64 claimed; /* the receiving box's life */
	__u64 fence;
	__u32 send_subkey[DERIVE_SUBKEY_WORDS];
	__u32 receive_subkey[DERIVE_SUBKEY_WORDS];
	struct key_words own_private, own_public, peer_public, secret;
	struct derive derive;
};

/* Overwrite all, the secrets among it. */
__noinline int pair_forget(struct pair *pair)
{
	if (!pair)
		return -1;
	overwrite(pair, sizeof(*pair));
	return 0;
}

/* Counters, or windows, of one pair start at zero. */
__noinline int pair_reset(__u32 number, enum direction direction, __u32 index)
{
	__u32 key = number * PAIRS + index;
	int lane, word;

	if (direction == DIRECTION_SEND) {
		struct counters *counter = bpf_map_lookup_elem(&counters, &key);

		if (!counter)
			return -1;
#pragma clang loop unroll(disable)
		for (lane = 0; lane < LANES; lane++)
			counter->lane[lane].next = 0;
	} else {
		struct windows *window = bpf_map_lookup_elem(&windows, &key);

		if (!window)
			return -1;
#pragma clang loop unroll(disable)
		for (lane = 0; lane < LANES; lane++) {
			window->lane[lane].highest = 0;
#pragma clang loop unroll(disable)
			for (word = 0; word < WINDOW_WORDS; word++)
				window->lane[lane].words[word] = 0;
		}
	}
	return 0;
}

/* Empty the sending box. The caller holds the pair. */
static __always_inline void pair_wipe_send(struct box *send)
{
	__u64 life = life_read(send);

	if (life_state(life) == BOX_EMPTY)
		return;
	life = life_next(life, BOX_CLAIMED);
	life_store(send, life); /* from here on no packet goes out on it */
	__builtin_memset(send->subkey, 0, KEY_SIZE);
	send->not_after = 0;
	life_store(send, life_with(life, BOX_EMPTY));
}

/* Empty both boxes of a pair whose receiving box has the life `claimed`, and give
 * that one up as `tenant`: BOX_EMPTY, or a failed one. */
static __always_inline void pair_wipe(struct box *send, struct box *receive,
				      __u64 claimed, __u32 tenant)
{
	pair_wipe_send(send);
	__builtin_memset(receive->subkey, 0, KEY_SIZE);
	__builtin_memset(receive->peer_public, 0, KEY_SIZE);
	receive->not_after = 0;
	life_store(receive, life_with(claimed, tenant));
}

/* The same for a pair last seen with the life `judged`. Returns 0, or -1: somebody
 * else has it. */
static __always_inline int pair_lock_and_wipe(struct box *send, struct box *receive,
					      __u64 judged, __u32 tenant)
{
	__u64 claimed = life_next(judged, BOX_CLAIMED);

	if (life_state(judged) == BOX_CLAIMED || !life_swap(receive, judged, claimed))
		return -1;
	pair_wipe(send, receive, claimed, tenant);
	return 0;
}

static __always_inline __u64 pair_not_after(const struct association *association,
					    const struct pair *pair, __u64 limit,
					    __u32 seconds)
{
	__u64 age = seconds * SECOND_NS;
	__u64 own = association->own_since[pair->own & 1] + age;
	__u64 peer = pair->peer == pair->seen.is.peer_current + 1u ?
			     pair->now :
			     association->peer_since[pair->peer & 1];

	peer += age;
	limit = own < limit ? own : limit;
	return peer < limit ? peer : limit;
}

/* Fill and publish both boxes. The caller holds the pair: the receiving box has the
 * life pair->claimed. Before its life says PUBLISHED nothing opens, before the
 * sending one's does nothing is sealed; and counters and windows are zeroed before. */
static __always_inline int pair_publish(const struct association *association,
					struct pair *pair, struct box *send,
					struct box *receive)
{
	__u32 outward = pair_index(pair->own, pair->peer);
	__u32 inward = pair_index(pair->peer, pair->own);
	__u64 life = life_next(life_read(send),
			       box_tenant(BOX_CLAIMED, pair->own, pair->peer));

	life_store(send, life);
	pair_reset(pair->association, DIRECTION_SEND, outward);
	__builtin_memcpy(send->subkey, pair->send_subkey, KEY_SIZE);
	send->peer = association->peer;
	send->index = association->remote_index;
	send->not_after = pair_not_after(association, pair, association->send_not_after,
					 PAIR_SEND_SECONDS);
	life_store(send, life_with(life, box_tenant(BOX_PUBLISHED, pair->own, pair->peer)));

	pair_reset(pair->association, DIRECTION_RECEIVE, inward);
	__builtin_memcpy(receive->subkey, pair->receive_subkey, KEY_SIZE);
	__builtin_memcpy(receive->peer_public, &pair->peer_public, KEY_SIZE);
	receive->peer = association->peer;
	receive->index = association->local_index;
	receive->not_after = pair_not_after(association, pair,
					    association->receive_not_after,
					    PAIR_RECEIVE_SECONDS);
	life_store(receive, life_with(pair->claimed,
				      box_tenant(BOX_PUBLISHED, pair->peer, pair->own)));
	return PAIR_DONE;
}

/* May the slot be claimed for that pair? It is empty, or a pair of the same key of
 * ours and the peer's two generations before is still in it. */
static __always_inline int pair_claimable(__u64 life, __u32 own, __u32 peer)
{
	return life_state(life) == BOX_EMPTY ||
	       (peer >= 2 &&
		life_tenant(life) == box_tenant(BOX_PUBLISHED, peer - 2, own));
}

/* The keys the pair is made of, from the association. */
static __always_inline void pair_copy_keys(const struct association *association,
					   struct pair *pair)
{
	const struct association_key *own = &association->own[pair->own & 1];

	pair->own_private = *(const struct key_words *)own->private;
	pair->own_public = *(const struct key_words *)own->public;
	pair->secret = *(const struct key_words *)association->secret;
	if (pair->peer == pair->seen.is.peer_current + 1u)
		pair->peer_public = pair->peer_key;
	else
		pair->peer_public =
			*(const struct key_words *)association->peer_public[pair->peer & 1];
}

static __always_inline int pair_derive(struct pair *pair)
{
	__u32 own = pair->own, peer = pair->peer;
	int i;

	if (derive_dh(&pair->derive, &pair->own_private, &pair->own_public,
		      &pair->peer_public))
		return -1;
	derive_box(&pair->derive, &pair->secret, &pair->own_public, &pair->peer_public,
		   own | peer << 8);
	for (i = 0; i < DERIVE_SUBKEY_WORDS; i++)
		pair->send_subkey[i] = pair->derive.subkey[i];
	derive_box(&pair->derive, &pair->secret, &pair->peer_public, &pair->own_public,
		   peer | own << 8);
	for (i = 0; i < DERIVE_SUBKEY_WORDS; i++)
		pair->receive_subkey[i] = pair->derive.subkey[i];
	return 0;
}

/* Make the pair. `pair` keeps secrets afterwards: pair_forget. The order:
 *	1. claim the receiving box		a fence
 *	2. copy the keys
 *	3. fence
 *	4. read the word again: still legal, still the same instance
 *	5. derive, fill, publish
 * 4 must come after 1 (ratchet.h) and after 2: a key that is overwritten while it is
 * copied was made illegal before. */
__noinline int pair_make(struct pair *pair)
{
	struct association *association;
	struct box *send, *receive;
	union ratchet_word word;
	__u64 life;

	if (!pair)
		return PAIR_ILLEGAL;
	association = association_at(pair->association);
	send = pair_send(pair->association, pair->own, pair->peer);
	receive = pair_receive(pair->association, pair->own, pair->peer);
	if (!association || !send || !receive)
		return PAIR_ILLEGAL;
	life = life_read(receive);
	if (!pair_claimable(life, pair->own, pair->peer))
		return life_state(life) == BOX_FAILED ? PAIR_FAILED : PAIR_BUSY;
	pair->claimed = life_next(life, box_tenant(BOX_CLAIMED, pair->peer, pair->own));
	RACE(RACE_PAIR_FOUND, pair->association);
	if (!life_swap(receive, life, pair->claimed))
		return PAIR_BUSY;
	RACE(RACE_PAIR_CLAIMED, pair->association);
	pair_copy_keys(association, pair);
	RACE(RACE_PAIR_COPIED, pair->association);
	fence(&pair->fence);
	word = ratchet_read(association);
	if (word.is.instance != pair->seen.is.instance ||
	    !ratchet_legal(association, word, pair->own, pair->peer, pair->announced,
			   pair->now)) {
		pair_wipe(send, receive, pair->claimed, BOX_EMPTY);
		return PAIR_BUSY;
	}
	if (pair_derive(pair)) {
		pair_wipe(send, receive, pair->claimed,
			  box_tenant(BOX_FAILED, pair->peer, pair->own));
		return PAIR_FAILED;
	}
	return pair_publish(association, pair, send, receive);
}

#endif
