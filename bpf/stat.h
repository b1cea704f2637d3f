/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Counting what became of each packet. Every exit of a program goes through
 * here.
 */
#ifndef BRINE_STAT_H
#define BRINE_STAT_H

#include "maps.h"

static __always_inline void stat_count(enum stat reason, __u64 bytes)
{
	__u32 key = reason;
	struct stat_value *value = bpf_map_lookup_elem(&stats, &key);

	if (value) { /* always: the map has STATS entries */
		value->packets++;
		value->bytes += bytes;
	}
}

#endif
