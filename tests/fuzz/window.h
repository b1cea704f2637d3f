/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What protocol.md says of replay, in the plainest form: a list of all counters that
 * were accepted. bpf/replay.h is judged by it.
 */
#ifndef BRINE_FUZZ_WINDOW_H
#define BRINE_FUZZ_WINDOW_H

#include <linux/types.h>

enum { WINDOW_LIST = 8192 };

struct window_list {
	__u64 highest;
	__u32 count;
	__u64 accepted[WINDOW_LIST];
};

static int window_would(const struct window_list *list, __u64 counter)
{
	__u32 i;

	if (list->highest > counter && list->highest - counter >= 2048 - 32)
		return 0;
	for (i = 0; i < list->count; i++)
		if (list->accepted[i] == counter)
			return 0;
	return 1;
}

static void window_add(struct window_list *list, __u64 counter)
{
	list->accepted[list->count++] = counter;
	if (counter > list->highest)
		list->highest = counter;
}

#endif
