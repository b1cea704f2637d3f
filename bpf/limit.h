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

/* 1 if the peer may punt another packet. Updates race between CPUs without
 * harm: at worst each CPU spends the same token once. */
static __always_inline int limit_take(__u32 peer, __u64 now)
{
	struct limit *limit = bpf_map_lookup_elem(&limits, &peer);
	__u64 earned;

	if (!limit)
		return 0;
	earned = (now - limit->updated) / LIMIT_INTERVAL_NS;
	if (earned) {
		__u64 tokens = limit->tokens + earned;

		limit->tokens = tokens > LIMIT_BURST ? LIMIT_BURST : tokens;
		limit->updated = now;
	}
	if (!limit->tokens)
		return 0;
	limit->tokens--;
	return 1;
}

#endif
