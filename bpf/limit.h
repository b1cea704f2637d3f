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

/* 1 if another packet may pass. CPUs race without a lock: each reads a value once
 * and writes what follows from it, so that they may spend one token together,
 * but never drive the count below zero. */
static __always_inline int bucket_take(struct bucket *bucket, __u64 now)
{
	__u64 tokens = *(volatile __u64 *)&bucket->tokens;
	__u64 updated = *(volatile __u64 *)&bucket->updated;
	__u64 earned;

	/* Another CPU may have been here with a later `now`. */
	earned = now > updated ? (now - updated) / LIMIT_INTERVAL_NS : 0;
	if (earned) {
		tokens += earned;
		updated += earned * LIMIT_INTERVAL_NS;
		if (tokens > LIMIT_BURST) {
			tokens = LIMIT_BURST;
			updated = now;
		}
		*(volatile __u64 *)&bucket->updated = updated;
	}
	if (tokens)
		*(volatile __u64 *)&bucket->tokens = tokens - 1;
	return tokens != 0;
}

static __always_inline int limit_send(__u32 peer, __u64 now)
{
	struct limit *limit = bpf_map_lookup_elem(&limits, &peer);

	return limit && bucket_take(&limit->send, now);
}

static __always_inline int limit_receive(__u32 peer, __u64 now)
{
	struct limit *limit = bpf_map_lookup_elem(&limits, &peer);

	return limit && bucket_take(&limit->receive, now);
}

#endif
