/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the `control` program does to the ratchet and the pairs of an association:
 * ROTATE, DERIVE, DERIVE_PAIR, RETIRE, and ERASE's part of it. control.h says what
 * for, ratchet.h in what order.
 */
#ifndef BRINE_CONTROL_RATCHET_H
#define BRINE_CONTROL_RATCHET_H

#include "control.h"
#include "pair.h"

/* The program's own work area: it is preempted by packets, so `open` has others. */
struct control_area {
	__u64 taken;
	struct pair pair;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control_area);
} control_areas SEC(".maps");

static __always_inline int control_is_confirmed(const struct association *association)
{
	return life_state(life_read(association)) == ASSOCIATION_CONFIRMED;
}

/* Whether no pair of that generation of ours, by its last bit, is held or being made
 * or kept from being made. */
static __always_inline int control_own_empty(__u32 number, __u32 own)
{
	struct box *send, *receive;
	__u32 peer;

#pragma clang loop unroll(full)
	for (peer = 0; peer < 2; peer++) {
		send = pair_send(number, own, peer);
		receive = pair_receive(number, own, peer);
		if (!send || !receive || life_state(life_read(send)) != BOX_EMPTY ||
		    life_state(life_read(receive)) != BOX_EMPTY)
			return 0;
	}
	return 1;
}

/* The key before the present one must be gone, not only unused: the new one takes its
 * place. Checked against the word that is then swapped. */
static __always_inline int control_rotation_due(const struct association *association,
						union ratchet_word word, __u32 number,
						__u32 own, __u64 now)
{
	__u32 current = word.is.own_current;

	return control_is_confirmed(association) && own == current + 1 &&
	       !(word.is.flags & RATCHET_OWN_PREVIOUS) && !ratchet_announces(word) &&
	       now >= association->own_since[current & 1] +
			      RATCHET_REST_SECONDS * SECOND_NS &&
	       now >= association->own_rest_until && control_own_empty(number, own);
}

static __always_inline void control_wipe_own(struct association_key *own)
{
	__builtin_memset(own, 0, sizeof(*own));
}

/* pair->own_private and own_public are generation pair->own. */
__noinline int control_rotate(struct pair *pair)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct association *association;
	union ratchet_word word, next;
	struct association_key *own;
	int i, result;

	if (!pair)
		return CONTROL_BAD_REQUEST;
	association = association_at(pair->association);
	if (!association)
		return CONTROL_BAD_REQUEST;
	own = &association->own[pair->own & 1];
	word = ratchet_read(association);
	if (!control_rotation_due(association, word, pair->association, pair->own, now))
		return CONTROL_NOT_DUE;
	/* No pair of it is legal before the word says so, and none of the generation
	 * that had the place any more. */
	*(struct key_words *)own->private = pair->own_private;
	*(struct key_words *)own->public = pair->own_public;
	association->own_since[pair->own & 1] = now;
	result = CONTROL_AGAIN;
#pragma clang loop unroll(disable)
	for (i = 0; i < RATCHET_TRIES; i++) {
		word = ratchet_read(association);
		if (!control_rotation_due(association, word, pair->association, pair->own,
					  now))
			break;
		next = word;
		next.is.own_current++;
		next.is.flags |= RATCHET_UNPROVED | RATCHET_OWN_UNUSED | RATCHET_OWN_PREVIOUS;
		if (ratchet_swap(association, word, next))
			return CONTROL_DONE;
	}
	control_wipe_own(own);
	return result;
}

static __always_inline int control_pair_result(int made)
{
	switch (made) {
	case PAIR_DONE:
		return CONTROL_DONE;
	case PAIR_BUSY:
		return CONTROL_AGAIN;
	case PAIR_FAILED:
		return CONTROL_FAILED;
	default:
		return CONTROL_ILLEGAL;
	}
}

/* The pair of both newest keys. Crossing rotations leave it without a box, and no
 * packet asks for it while both sides wait for it. */
__noinline int control_derive(struct pair *pair)
{
	struct association *association;
	struct box *receive;
	int result;

	if (!pair)
		return CONTROL_BAD_REQUEST;
	association = association_at(pair->association);
	if (!association)
		return CONTROL_BAD_REQUEST;
	if (life_state(life_read(association)) < ASSOCIATION_PENDING)
		return CONTROL_NO_ASSOCIATION;
	pair->now = bpf_ktime_get_boot_ns();
	pair->seen = ratchet_read(association);
	pair->own = pair->seen.is.own_current;
	pair->peer = pair->seen.is.peer_current;
	receive = pair_receive(pair->association, pair->own, pair->peer);
	if (receive && life_tenant(life_read(receive)) ==
			       box_tenant(BOX_PUBLISHED, pair->peer, pair->own))
		result = CONTROL_DONE;
	else
		result = control_pair_result(pair_make(pair));
	if (result == CONTROL_DONE) {
		union ratchet_word word = ratchet_read(association);

		if (word.is.own_current != pair->own || word.is.peer_current != pair->peer)
			return CONTROL_AGAIN; /* there are newer ones by now */
	}
	return result;
}

/* pair->own, peer, announced, peer_key and seen.is.instance are of the event. header_tag
 * has vouched for that key, to the ratchet of that instance. It is adopted, as ever,
 * once a packet opens under it. */
__noinline int control_derive_pair(struct pair *pair)
{
	struct association *association;
	union ratchet_word word;
	struct box *receive;

	if (!pair)
		return CONTROL_BAD_REQUEST;
	association = association_at(pair->association);
	receive = pair_receive(pair->association, pair->own, pair->peer);
	if (!association || !receive)
		return CONTROL_BAD_REQUEST;
	if (life_state(life_read(association)) < ASSOCIATION_PENDING)
		return CONTROL_NO_ASSOCIATION;
	word = ratchet_read(association);
	if (word.is.instance != pair->seen.is.instance)
		return CONTROL_ILLEGAL;
	pair->seen = word;
	pair->now = bpf_ktime_get_boot_ns();
	pair->announced = pair->announced && control_is_confirmed(association);
	if (life_tenant(life_read(receive)) ==
	    box_tenant(BOX_PUBLISHED, pair->peer, pair->own))
		return CONTROL_DONE; /* it is there: the daemon was told twice */
	if (!ratchet_legal(association, word, pair->own, pair->peer, pair->announced,
			   pair->now))
		return CONTROL_ILLEGAL;
	return control_pair_result(pair_make(pair));
}

/* Clear `flag`, which makes pairs illegal, in the word that was found due. Returns 1
 * if it is clear now, 0 if it is not due, -1 if the word moved. */
static __always_inline int control_clear(struct association *association,
					 union ratchet_word word, __u8 flag)
{
	union ratchet_word next = word;

	next.is.flags &= ~flag;
	return ratchet_swap(association, word, next) ? 1 : -1;
}

static __always_inline int control_retire_flags(struct association *association, __u64 now)
{
	__u64 rest = RATCHET_REST_SECONDS * SECOND_NS, moved;
	union ratchet_word word = ratchet_read(association);
	int done = 0;

	/* Ours: once data has left the one before, in both directions. An announcement
	 * proves the newest and does not say that. */
	if (word.is.flags & RATCHET_OWN_PREVIOUS && !ratchet_announces(word) &&
	    now >= association->own_used_at + rest) {
		done = control_clear(association, word, RATCHET_OWN_PREVIOUS);
		if (done < 0)
			return done;
		word = ratchet_read(association);
	}
	/* Theirs: once they send data under the newest. */
	moved = *(volatile __u64 *)&association->peer_moved;
	if (word.is.flags & RATCHET_PEER_PREVIOUS &&
	    (__u8)moved == word.is.peer_current &&
	    word.is.send_peer == word.is.peer_current && now >= moved + rest)
		done = control_clear(association, word, RATCHET_PEER_PREVIOUS);
	return done;
}

/* Empty what can never be used again, and what expired. Returns 1 if anything was
 * emptied, 0 if there was nothing, -1 if somebody is at a pair that must go. */
static __always_inline int control_retire_pairs(__u32 number, union ratchet_word word,
						__u64 now)
{
	__u64 rest = RATCHET_REST_SECONDS * SECOND_NS, life;
	struct box *send, *receive;
	__u32 i, own, peer, state;
	int gone, done = 0;

#pragma clang loop unroll(disable)
	for (i = 0; i < PAIRS; i++) {
		send = pair_send(number, i >> 1, i);
		receive = pair_receive(number, i >> 1, i);
		if (!send || !receive)
			return -1;
		life = life_read(receive);
		state = life_state(life);
		if (state == BOX_EMPTY)
			continue;
		peer = (__u8)(life >> 8);
		own = (__u8)(life >> 16);
		gone = ratchet_own_gone(word, own) || ratchet_peer_gone(word, peer);
		/* An expired pair is legal still, and must not be made again: FAILED.
		 * As must the one that data waits for. */
		if (!gone && (state != BOX_PUBLISHED || now < receive->not_after + rest ||
			      (own == word.is.send_own && peer == word.is.send_peer)))
			continue;
		if (pair_lock_and_wipe(send, receive, life,
				       gone ? BOX_EMPTY : box_tenant(BOX_FAILED, peer, own)))
			return -1;
		done = 1;
	}
	return done;
}

static __always_inline int control_has_key(const struct association_key *own)
{
	const __u64 *word = (const __u64 *)own->private;
	__u64 any = word[0] | word[1] | word[2] | word[3];

	barrier_var(any);
	return any != 0;
}

/* First the word, then the boxes, then the key: whoever claims a pair reads the word
 * after that, and whoever is at one already is found here, CLAIMED. The peer's key
 * before the present one stays where it is: it is public, and where `open` may be
 * writing the next. */
__noinline int control_retire(__u32 number)
{
	struct association *association = association_at(number);
	__u64 now = bpf_ktime_get_boot_ns();
	struct association_key *own;
	union ratchet_word word;
	int flags, pairs;

	if (!association)
		return CONTROL_BAD_REQUEST;
	if (life_state(life_read(association)) < ASSOCIATION_PENDING)
		return CONTROL_NO_ASSOCIATION;
	flags = control_retire_flags(association, now);
	if (flags < 0)
		return CONTROL_AGAIN;
	word = ratchet_read(association);
	pairs = control_retire_pairs(number, word, now);
	if (pairs < 0)
		return CONTROL_AGAIN;
	own = &association->own[!(word.is.own_current & 1)];
	if (!(word.is.flags & RATCHET_OWN_PREVIOUS) && control_has_key(own)) {
		control_wipe_own(own);
		association->own_rest_until = now + RATCHET_REST_SECONDS * SECOND_NS;
		pairs = 1;
	}
	return flags || pairs ? CONTROL_DONE : CONTROL_NOT_DUE;
}

/* Move the word on to another instance: from here on whoever claims a pair for the
 * present one gives it back. Returns 0, or -1: a CPU is writing a key. */
static __always_inline int control_leave_instance(struct association *association)
{
	union ratchet_word word, next;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < RATCHET_TRIES; i++) {
		word = ratchet_read(association);
		if (word.is.flags & RATCHET_ADOPTING)
			return -1;
		next = word;
		next.is.instance++;
		if (ratchet_swap(association, word, next))
			return 0;
	}
	return -1;
}

/* Empty all pairs. Returns 0, or -1: somebody is at one of them. */
static __always_inline int control_wipe_pairs(__u32 number)
{
	struct box *send, *receive;
	int result = 0;
	__u32 i;
	__u64 life;

#pragma clang loop unroll(disable)
	for (i = 0; i < PAIRS; i++) {
		send = pair_send(number, i >> 1, i);
		receive = pair_receive(number, i >> 1, i);
		if (!send || !receive)
			return -1;
		life = life_read(receive);
		if (life_state(life) == BOX_EMPTY)
			continue;
		if (pair_lock_and_wipe(send, receive, life, BOX_EMPTY))
			result = -1;
	}
	return result;
}

#endif
