/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A program that marks many counters in one replay window and notes how often
 * each was accepted: several CPUs run it at once. See selftest.h.
 */
#ifndef BRINE_SELFTEST_REPLAY_H
#define BRINE_SELFTEST_REPLAY_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "replay.h"

enum selftest_replay_size {
	SELFTEST_COUNTERS = 1 << 15,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct windows);
} selftest_windows SEC(".maps");

/* How often each counter was accepted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SELFTEST_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} selftest_accepted SEC(".maps");

struct selftest_replay {
	__u32 lane;
	__u32 count; /* of turns, at most SELFTEST_COUNTERS */
	__u32 order; /* turn t marks counter t ^ order */
	__u32 accepted; /* out */
};

struct selftest_replay_loop {
	struct windows *windows;
	__u32 lane, order, accepted;
};

static long selftest_replay_turn(__u64 turn, struct selftest_replay_loop *loop)
{
	__u32 counter = turn ^ loop->order;
	__u64 *accepted;

	if (!replay_fresh(loop->windows, loop->lane, counter) ||
	    !replay_mark(loop->windows, loop->lane, counter))
		return 0;
	loop->accepted++;
	accepted = bpf_map_lookup_elem(&selftest_accepted, &counter);
	if (accepted)
		__sync_fetch_and_add(accepted, 1);
	return 0;
}

SEC("syscall")
int selftest_replay(struct selftest_replay *request)
{
	struct selftest_replay_loop loop = {
		.lane = request->lane,
		.order = request->order,
	};
	__u32 zero = 0;

	loop.windows = bpf_map_lookup_elem(&selftest_windows, &zero);
	if (!loop.windows || request->count > SELFTEST_COUNTERS)
		return 1;
	bpf_loop(request->count, selftest_replay_turn, &loop, 0);
	request->accepted = loop.accepted;
	return 0;
}

#endif
