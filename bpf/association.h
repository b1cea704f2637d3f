/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Associations, boxes and their lives. docs/protocol.md: Boxes, Exchange.
 *
 * A slot of `associations` or `boxes` holds one tenant after another while
 * packets are being sealed and opened on all CPUs. Its first word joins `state`
 * and `serial` (a box's also its generations): the slot's *life*. Every claim of
 * the slot raises the serial, so a life, once left, never comes back. Whoever
 * moves a slot out of FREE or EMPTY, or out of use, does so by compare-and-swap
 * to CLAIMED; from then on only that run of that program writes the slot, until
 * it stores the next state. An association is moved so by `control` alone; a
 * receiving box also by `open`; a sending box by whoever has claimed the
 * receiving box of the same pair: pair.h.
 *
 * Why no (key, nonce) is ever used twice to seal. `seal` does, in this order:
 *	1. read the box's life; go on only if PUBLISHED
 *	2. fence
 *	3. copy sub-key, peer, index, not_after (and, to announce it, our public
 *	   key and the header key)
 *	4. number = atomic fetch-and-add of the lane's counter (a full fence)
 *	5. read the life again; unless it is the same word, send nothing
 * and pair.h, which alone writes boxes and resets counters:
 *	fill	claim -> zero the counters, write the box -> exchange to PUBLISHED
 *	wipe	exchange to CLAIMED -> overwrite the box -> exchange to EMPTY
 * and what 3 reads of an association is written before its boxes are filled, and
 * overwritten after they are wiped.
 * (a) Lives never return, so the same life in 1 and 5 means that the box stayed
 *     PUBLISHED with that serial from 1 to 5: the exchanges are full fences, and
 *     so are 2 and 4. Hence the copy in 3 is one tenant's, whole: not half wiped
 *     (a key of zeros would be no key), not half filled, not another peer's.
 * (b) Between PUBLISHED and CLAIMED nothing but fetch-and-add touches the box's
 *     counters: the numbers drawn in 4 while one tenant is published are all
 *     different. A number drawn by a packet that fails in 5 is lost, no more.
 *     Late packets of an earlier tenant can only make the counter skip.
 * (c) number < 2^COUNTER_BITS is required, and 2^64 draws cannot happen: so
 *     lane * 2^56 + number is different for each packet of a tenant. CPUs of
 *     one lane share one counter.
 * (d) Two tenants never have the same key: K and N are those of one pair of one
 *     exchange, in which both sides put fresh randomness. A pair is filled once:
 *     ratchet.h. One exchange cannot be installed twice, since its local index is
 *     refused while it lives and for CONTROL_RETIRE_SECONDS after; `control`
 *     wipes its request; and it refuses keys of zeros (a wiped buffer) and equal
 *     keys for both directions.
 * (e) Nothing copies a box, and no other program seals by it: former programs
 *     (former.h) have boxes of their own.
 * That an association rests CONTROL_REST_SECONDS before it is claimed again is a
 * second line behind (a), and gives packets under way time to arrive.
 *
 * `open` copies in the same manner and reads the life again after the replay
 * window's mark: the same life means that the key, the window and the peer that
 * a packet is judged by belong together, and that no window was reset between
 * look-up and mark. So (key, lane, counter) is delivered at most once.
 */
#ifndef BRINE_ASSOCIATION_H
#define BRINE_ASSOCIATION_H

#include "maps.h"

/* The life of a slot: what its first word says below, serial above. `slot` is
 * a struct association or struct box, which begin with that word. */
static __always_inline __u64 life_read(const void *slot)
{
	return *(const volatile __u64 *)slot;
}

static __always_inline __u32 life_state(__u64 life)
{
	return (__u8)life;
}

/* The same tenant in another state. */
static __always_inline __u64 life_with(__u64 life, __u32 state)
{
	return (life >> 32 << 32) | state;
}

/* The next tenant. */
static __always_inline __u64 life_next(__u64 life, __u32 state)
{
	return ((life >> 32) + 1) << 32 | state;
}

/* Returns 1 if the slot's life was `from` and is now `to`. A full fence if so. */
static __always_inline int life_swap(void *slot, __u64 from, __u64 to)
{
	return __sync_val_compare_and_swap((__u64 *)slot, from, to) == from;
}

static __always_inline void life_store(void *slot, __u64 to)
{
	__sync_lock_test_and_set((__u64 *)slot, to);
}

/* The lower half of a box's life. */
static __always_inline __u32 box_tenant(enum box_state state, __u8 sender_generation,
					__u8 receiver_generation)
{
	return state | sender_generation << 8 | (__u32)receiver_generation << 16;
}

static __always_inline __u32 life_tenant(__u64 life)
{
	return (__u32)life;
}

/* Order what is before against what is after, on every architecture: BPF has
 * no fence, but its exchange is one. `word` is the CPU's own. */
static __always_inline void fence(__u64 *word)
{
	__sync_lock_test_and_set(word, 0);
}

/* Places between the steps above. Here they are nothing; tests/bpf/races.bpf.c
 * builds the programs with the work of another CPU in one of them. */
enum race_place {
	RACE_SEAL_FOUND = 1, /* the slot, before its life is read */
	RACE_SEAL_ALIVE, /* between 1 and 3 */
	RACE_SEAL_COPIED, /* between 3 and 4 */
	RACE_SEAL_COUNTED, /* between 4 and 5 */
	RACE_SEAL_TAKEN, /* after 5 */
	RACE_OPEN_FOUND,
	RACE_OPEN_ALIVE,
	RACE_OPEN_COPIED,
	RACE_OPEN_VERIFIED,
	RACE_OPEN_MARKED, /* before the life is read again */
	RACE_OPEN_TAKEN, /* after that */
	RACE_CONTROL_CLAIMED, /* INSTALL owns the association, and has written nothing */
	RACE_PAIR_FOUND, /* pair.h: the slot judged, not claimed */
	RACE_PAIR_CLAIMED, /* before the keys are copied */
	RACE_PAIR_COPIED, /* before the word is read again */
};
#ifndef RACE
#define RACE(place, association)
#endif

static __always_inline __u32 pair_index(__u8 sender_generation,
					__u8 receiver_generation)
{
	return (sender_generation & 1) * 2 + (receiver_generation & 1);
}

static __always_inline struct association *association_at(__u32 number)
{
	return bpf_map_lookup_elem(&associations, &number);
}

/* The slot of that direction and pair, whatever it holds; NULL out of range. */
static __always_inline struct box *box_at(__u32 association,
					  enum direction direction, __u32 pair)
{
	__u32 key = association * BOXES_PER_ASSOCIATION + direction * PAIRS + pair;

	return bpf_map_lookup_elem(&boxes, &key);
}

/* Seal the peer's packets under association `number`, seen with `life`. Should
 * it be erased meanwhile, either the eraser or this takes the pointer back; one
 * that is left over does no harm, since `seal` checks the box it leads to. */
static __always_inline void association_publish(const struct association *association,
						__u32 number, __u64 life,
						struct peer_state *state)
{
	__sync_lock_test_and_set(&state->sending, number + 1);
	if (life_read(association) >> 32 != life >> 32)
		__sync_val_compare_and_swap(&state->sending, number + 1, 0);
}

#define PEER_STATE_GRAIN_NS 100000000ULL

/* Times in peer_states move in steps, so that CPUs rarely fight for the line. */
static __always_inline void peer_state_touch(__u64 *time, __u64 now)
{
	if (now >= *(volatile __u64 *)time + PEER_STATE_GRAIN_NS)
		*(volatile __u64 *)time = now;
}

#endif
