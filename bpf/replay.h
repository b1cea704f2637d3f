/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The replay window of one box and lane: RFC 6479's ring of words, without its
 * lock, so that all CPUs may receive one lane at once.
 *
 * A word holds 32 counters: their bits below, the epoch (which turn of the ring
 * they belong to) above. A counter is marked by one compare-and-swap:
 *   word's epoch older than the counter's   replace it by (epoch, bit)
 *   equal, bit clear                        set the bit
 *   equal, bit set                          replay
 *   newer                                   too old: the ring has moved on
 * A bit, once set, goes only by a newer epoch, after which its counter is
 * refused as too old: no counter is ever accepted twice, whatever the order of
 * CPUs. `highest` only makes the window's width exact: WINDOW_SIZE counters, the
 * highest one's word always counted as whole.
 *
 * Epochs have 32 bits, counters COUNTER_BITS = 40; an epoch spans 2^11: 2^29
 * epochs, so they never wrap.
 */
#ifndef BRINE_REPLAY_H
#define BRINE_REPLAY_H

#include "maps.h"

enum replay_limit {
	REPLAY_TRIES = 8, /* lost races with other CPUs on one word */
};

/* Whether to spend a Poly1305 on the counter at all. May err towards yes. */
static __always_inline int replay_fresh(struct windows *windows, __u32 lane,
					__u64 counter)
{
	__u64 highest, word, block = counter / WINDOW_WORD_BITS;

	lane &= LANES - 1;
	highest = *(volatile __u64 *)&windows->lane[lane].highest;
	if (counter < highest && highest - counter >= WINDOW_SIZE)
		return 0;
	word = *(volatile __u64 *)&windows->lane[lane].words[block % WINDOW_WORDS];
	if (word >> 32 != block / WINDOW_WORDS)
		return word >> 32 < block / WINDOW_WORDS;
	return !(word >> (counter % WINDOW_WORD_BITS) & 1);
}

/* Test and set, after authentication. Returns 1 for the one caller that may
 * deliver the packet. */
static __always_inline int replay_mark(struct windows *windows, __u32 lane,
				       __u64 counter)
{
	__u64 block = counter / WINDOW_WORD_BITS;
	__u64 epoch = block / WINDOW_WORDS;
	__u64 bit = 1ULL << (counter % WINDOW_WORD_BITS);
	__u64 *slot, *top, highest, word, marked;
	int i;

	lane &= LANES - 1;
	top = &windows->lane[lane].highest;
	slot = &windows->lane[lane].words[block % WINDOW_WORDS];
	highest = *(volatile __u64 *)top;
	if (counter < highest && highest - counter >= WINDOW_SIZE)
		return 0;
	for (i = 0; i < REPLAY_TRIES; i++) {
		word = *(volatile __u64 *)slot;
		if (word >> 32 > epoch)
			return 0;
		if (word >> 32 == epoch) {
			if (word & bit)
				return 0;
			marked = word | bit;
		} else {
			marked = epoch << 32 | bit;
		}
		if (__sync_val_compare_and_swap(slot, word, marked) == word)
			break;
	}
	if (i == REPLAY_TRIES)
		return 0; /* a lost packet, never a repeated one */
	for (i = 0; i < REPLAY_TRIES && counter > highest; i++) {
		word = __sync_val_compare_and_swap(top, highest, counter);
		if (word == highest)
			break;
		highest = word;
	}
	return 1;
}

#endif
