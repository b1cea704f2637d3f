/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Finding associations and boxes. docs/protocol.md: Boxes, Exchange.
 */
#ifndef BRINE_ASSOCIATION_H
#define BRINE_ASSOCIATION_H

#include "maps.h"

static __always_inline __u32 pair_index(__u8 sender_generation,
					__u8 receiver_generation)
{
	return (sender_generation & 1) * 2 + (receiver_generation & 1);
}

static __always_inline struct association *association_at(__u32 number)
{
	return bpf_map_lookup_elem(&associations, &number);
}

/* The published box of that direction and pair, or NULL. */
static __always_inline struct box *box_find(__u32 association,
					    enum direction direction,
					    __u8 sender_generation,
					    __u8 receiver_generation)
{
	__u32 key = association * BOXES_PER_ASSOCIATION + direction * PAIRS +
		    pair_index(sender_generation, receiver_generation);
	struct box *box = bpf_map_lookup_elem(&boxes, &key);

	if (!box || *(volatile __u32 *)&box->state != BOX_PUBLISHED ||
	    box->sender_generation != sender_generation ||
	    box->receiver_generation != receiver_generation)
		return NULL;
	return box;
}

#define PEER_STATE_GRAIN_NS 100000000ULL

/* Times in peer_states move in steps, so that CPUs rarely fight for the line. */
static __always_inline void peer_state_touch(__u64 *time, __u64 now)
{
	if (now - *(volatile __u64 *)time >= PEER_STATE_GRAIN_NS)
		*(volatile __u64 *)time = now;
}

#endif
