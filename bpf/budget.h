/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How often packets may cause work, for each and for the whole host: see enum budget.
 * A derivation takes 0.15 ms of a CPU. Forged packets cause at most the one of a pair
 * that was to be made anyway (header_tag), so that bounds what a peer can do; the
 * others bound what strangers can.
 *
 * Generic cell rate algorithm (ITU-T I.371, Annex A): one word holds the time
 * until which all is spent. Exact with any number of CPUs.
 */
#ifndef BRINE_BUDGET_H
#define BRINE_BUDGET_H

#include "maps.h"

enum budget_rate {
	BUDGET_TRIES = 4, /* lost races with other CPUs: then refused */
	BUDGET_ASSOCIATION_MS = 10000, /* one in ten seconds */
	BUDGET_ASSOCIATION_BURST = 4,
	BUDGET_HOST_MS = 10, /* 1.5 % of a CPU */
	BUDGET_HOST_BURST = 128,
	/* The daemon spends about 0.02 ms on each. */
	BUDGET_UNKNOWN_MS = 2,
	BUDGET_UNKNOWN_BURST = 512,
};

/* 1 if there is something left to spend. */
static __always_inline int budget_left(const __u64 *spent, __u64 now, __u64 each_ms,
				       __u64 burst)
{
	return *(const volatile __u64 *)spent <= now + (burst - 1) * each_ms * 1000000;
}

static __always_inline int budget_spend(__u64 *spent, __u64 now, __u64 each_ms,
					__u64 burst)
{
	__u64 each = each_ms * 1000000, until, from;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < BUDGET_TRIES; i++) {
		until = *(volatile __u64 *)spent;
		from = until > now ? until : now;
		if (from > now + (burst - 1) * each)
			return 0;
		if (__sync_val_compare_and_swap(spent, until, from + each) == until)
			return 1;
	}
	return 0;
}

/* 1 if a packet of this association may cause a derivation now. */
static __always_inline int budget_take(struct association *association, __u64 now)
{
	__u32 number = BUDGET_DERIVATIONS;
	__u64 *host = bpf_map_lookup_elem(&budgets, &number);

	return host &&
	       budget_spend(&association->derivations, now, BUDGET_ASSOCIATION_MS,
			    BUDGET_ASSOCIATION_BURST) &&
	       budget_spend(host, now, BUDGET_HOST_MS, BUDGET_HOST_BURST);
}

/* 1 if another packet of unknown index may go to the daemon, whosever it is. */
__noinline int budget_unknown(__u64 now)
{
	__u32 number = BUDGET_UNKNOWN;
	__u64 *host = bpf_map_lookup_elem(&budgets, &number);

	return host &&
	       budget_spend(host, now, BUDGET_UNKNOWN_MS, BUDGET_UNKNOWN_BURST);
}

#endif
