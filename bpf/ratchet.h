/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The ratchet of an association. docs/protocol.md: The ratchet.
 *
 * `struct ratchet` is one word. It moves by compare-and-swap, or, to end what
 * RATCHET_ADOPTING began, by one addition; so every CPU sees all generations of
 * one moment. It moves
 *	when a packet has opened	prove our newest key, adopt the peer's; then, if
 *					it came on (proved, adopted), send on that
 *	by `control`	rotate, retire, erase
 * Data is sealed on (own proved, peer adopted) and never on a key of ours that
 * the peer may not have: crossing rotations would seal what neither can open. And
 * never on a pair that the peer has not made: what comes while it makes it is
 * lost. Who has sealed on a pair has made it, so the first packet of it that opens
 * says so. Both newest keys are announced until one has come.
 *
 * Why a pair is made at most once. pair.h claims the receiving slot, copies the
 * keys, and then reads the word again: the pair must still be legal in the same
 * instance. Who makes a pair illegal for good moves the word first and looks at
 * the slots afterwards. Both are a write, a fence and a read of what the other
 * wrote: so either the claimer gives up, or the other finds the slot CLAIMED and
 * comes again. Once a pair has become illegal it stays so:
 *	own_current, peer_current only grow;
 *	RATCHET_OWN_PREVIOUS is set only with a new own_current;
 *	RATCHET_PEER_PREVIOUS is cleared before the boxes it speaks of are wiped,
 *	and set only with a new peer_current.
 * Until then its slot is PUBLISHED or FAILED, which nobody claims for that pair.
 */
#ifndef BRINE_RATCHET_H
#define BRINE_RATCHET_H

#include "association.h"
#include "key.h"

#define SECOND_NS 1000000000ULL

enum ratchet_limit {
	RATCHET_TRIES = 8, /* lost races with other CPUs on one word */
	RATCHET_REST_SECONDS = 10, /* between adoptions; before keys are retired */
};

/* As loaded from a map, whole. */
union ratchet_word {
	__u64 all;
	struct ratchet is;
};

static __always_inline union ratchet_word ratchet_read(const struct association *association)
{
	return (union ratchet_word){
		.all = *(const volatile __u64 *)&association->ratchet,
	};
}

/* Returns 1 if the word was `from` and is now `to`. A full fence if so. */
static __always_inline int ratchet_swap(struct association *association,
					union ratchet_word from, union ratchet_word to)
{
	return __sync_val_compare_and_swap((__u64 *)&association->ratchet, from.all,
					   to.all) == from.all;
}

/* Our newest generation that something has come back under. */
static __always_inline __u8 ratchet_proved(union ratchet_word word)
{
	return word.is.own_current - (word.is.flags & RATCHET_UNPROVED ? 1 : 0);
}

static __always_inline int ratchet_sends_newest(union ratchet_word word)
{
	return word.is.send_own == word.is.own_current &&
	       word.is.send_peer == word.is.peer_current;
}

/* Is our newest key to be announced, on the pair of both newest? Until nothing, in
 * either direction, needs the one before any more. */
static __always_inline int ratchet_announces(union ratchet_word word)
{
	return word.is.flags & (RATCHET_UNPROVED | RATCHET_OWN_UNUSED) ||
	       !ratchet_sends_newest(word);
}

/* Our key of that generation is gone for good. Generations never wrap, and 256,
 * were it compared, would match no u8. */
static __always_inline int ratchet_own_gone(union ratchet_word word, __u32 own)
{
	return own != word.is.own_current &&
	       !(own + 1 == word.is.own_current &&
		 word.is.flags & RATCHET_OWN_PREVIOUS);
}

/* The peer's key of that generation makes no more boxes, ever. */
static __always_inline int ratchet_peer_gone(union ratchet_word word, __u32 peer)
{
	return peer != word.is.peer_current && peer != word.is.peer_current + 1u &&
	       !(peer + 1 == word.is.peer_current &&
		 word.is.flags & RATCHET_PEER_PREVIOUS);
}

/* May this pair be made? `announced`: the peer's key came with the packet, which
 * a confirmed association must allow for its next generation. */
static __always_inline int ratchet_legal(const struct association *association,
					 union ratchet_word word, __u32 own,
					 __u32 peer, int announced, __u64 now)
{
	if (ratchet_own_gone(word, own))
		return 0;
	if (peer != word.is.peer_current + 1u)
		return !ratchet_peer_gone(word, peer);
	/* The last adoption must be over and done with. */
	return announced && word.is.send_peer == word.is.peer_current &&
	       !(word.is.flags & RATCHET_ADOPTING) &&
	       now >= association->peer_since[word.is.peer_current & 1] +
			      RATCHET_REST_SECONDS * SECOND_NS;
}

static __always_inline struct box *pair_receive(__u32 number, __u8 own, __u8 peer)
{
	return box_at(number, DIRECTION_RECEIVE, pair_index(peer, own));
}

static __always_inline struct box *pair_send(__u32 number, __u8 own, __u8 peer)
{
	return box_at(number, DIRECTION_SEND, pair_index(own, peer));
}

/* What a packet that opened, and was marked, and whose box was still there after
 * that, says of the ratchet. */
struct ratchet_opened {
	union ratchet_word seen; /* before its box was read */
	__u64 now;
	__u32 association;
	__u8 own; /* the receiver's generation in the packet */
	__u8 peer; /* the sender's */
	__u8 data; /* 1: DATA, 0: DATA_KEYED */
	__u8 reserved;
	struct key_words peer_public; /* of the box, if `peer` was not adopted then */
};

/* Send on the pair of the packet, if it is (proved, adopted). A packet of that pair
 * opens after both are what they are, or makes them so: none needs to be remembered.
 * (If it meets a CPU in the midst of adopting, the next one moves data: announcements
 * go on.) Its boxes are there as long as the word names it. Returns 1 if it is new. */
static __always_inline int ratchet_follow(struct association *association,
					  const struct ratchet_opened *opened)
{
	union ratchet_word word, next;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < RATCHET_TRIES; i++) {
		word = ratchet_read(association);
		if (word.is.instance != opened->seen.is.instance ||
		    opened->own != ratchet_proved(word) ||
		    opened->peer != word.is.peer_current)
			return 0;
		next = word;
		next.is.send_own = opened->own;
		next.is.send_peer = opened->peer;
		if (next.all == word.all)
			return 0;
		if (ratchet_swap(association, word, next))
			return 1;
	}
	return 0; /* the next packet comes by here, too */
}

/* The key to adopt is that of the box, not the packet's: header_tag was checked
 * once, when the pair was made. The word goes through RATCHET_ADOPTING, so that
 * one CPU writes the key, and peer_current names it only once it is whole.
 * Returns 1 if the ratchet moved. */
__noinline int ratchet_move(struct ratchet_opened *opened)
{
	struct association *association;
	union ratchet_word word, next;
	int i, adopt, prove, use, moved = 0;

	if (!opened)
		return -1;
	association = association_at(opened->association);
	if (!association)
		return -1;
#pragma clang loop unroll(disable)
	for (i = 0; i < RATCHET_TRIES; i++) {
		word = ratchet_read(association);
		if (word.is.instance != opened->seen.is.instance)
			return 0;
		adopt = opened->peer == word.is.peer_current + 1u &&
			!(word.is.flags & RATCHET_ADOPTING);
		prove = opened->own == word.is.own_current &&
			word.is.flags & RATCHET_UNPROVED;
		use = opened->own == word.is.own_current && opened->data &&
		      word.is.flags & RATCHET_OWN_UNUSED;
		if (!adopt && !prove && !use)
			break;
		next = word;
		if (prove)
			next.is.flags &= ~RATCHET_UNPROVED;
		if (use) {
			association->own_used_at = opened->now; /* before the word says so */
			next.is.flags &= ~RATCHET_OWN_UNUSED;
		}
		if (adopt) {
			/* The key before the present one is written over. */
			next.is.flags |= RATCHET_ADOPTING;
			next.is.flags &= ~RATCHET_PEER_PREVIOUS;
		}
		if (!ratchet_swap(association, word, next))
			continue;
		if (adopt) {
			*(struct key_words *)association->peer_public[opened->peer & 1] =
				opened->peer_public;
			association->peer_since[opened->peer & 1] = opened->now;
			/* One step, and no field carries into the next: peer_current is
			 * below 255, ADOPTING set and PEER_PREVIOUS clear. */
			__sync_fetch_and_add((__u64 *)&association->ratchet,
					     (1ULL << 8) + ((__u64)RATCHET_PEER_PREVIOUS << 32) -
						     ((__u64)RATCHET_ADOPTING << 32));
		}
		moved = 1;
		break;
	}
	/* Data under its newest generation: the peer has left the one before. */
	if (opened->data && opened->peer == ratchet_read(association).is.peer_current &&
	    opened->peer != (__u8)association->peer_moved)
		*(volatile __u64 *)&association->peer_moved =
			(opened->now & ~0xffULL) | opened->peer;
	return ratchet_follow(association, opened) || moved;
}

#endif
