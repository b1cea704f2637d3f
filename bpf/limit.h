/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Token buckets for what leaves the kernel towards the daemon.
 */
#ifndef BRINE_LIMIT_H
#define BRINE_LIMIT_H

#include "maps.h"

enum limit_rate {
	LIMIT_BURST = 128, /* packets */
	LIMIT_INTERVAL_NS = 10000000, /* one more every 10 ms */
};

/* 1 if the peer may punt another packet. CPUs race without a lock: each reads a
 * value once and writes what follows from it, so that they may spend one token
 * together, but never drive the count below zero. */
static __always_inline int limit_take(__u32 peer, __u64 now)
{
	struct limit *limit = bpf_map_lookup_elem(&limits, &peer);
	__u64 tokens, updated, earned;

	if (!limit)
		return 0;
	tokens = *(volatile __u64 *)&limit->tokens;
	updated = *(volatile __u64 *)&limit->updated;
	/* Another CPU may have been here with a later `now`. */
	earned = now > updated ? (now - updated) / LIMIT_INTERVAL_NS : 0;
	if (earned) {
		tokens += earned;
		updated += earned * LIMIT_INTERVAL_NS;
		if (tokens > LIMIT_BURST) {
			tokens = LIMIT_BURST;
			updated = now;
		}
		*(volatile __u64 *)&limit->updated = updated;
	}
	if (tokens)
		*(volatile __u64 *)&limit->tokens = tokens - 1;
	return tokens != 0;
}

#endif
