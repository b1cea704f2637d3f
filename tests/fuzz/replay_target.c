/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bpf/replay.h against the list of window.h. Input: steps of nine bytes, of which
 * the first chooses the lane and how the counter follows from the others.
 */
#include "input.h"
#include "kernel.h"
#include "replay.h"
#include "window.h"

static struct window_list lists[LANES];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, data + size };
	struct windows *windows = calloc(1, sizeof(*windows));
	__u32 lane;

	for (lane = 0; lane < LANES; lane++)
		lists[lane].highest = lists[lane].count = 0;
	while (input.at < input.end) {
		__u32 how = input_number(&input, 1);
		struct window_list *list = &lists[(how >> 2) % LANES];
		__u64 counter;
		int would;

		lane = (how >> 2) % LANES;
		switch (how & 3) {
		case 0: /* anywhere */
			counter = input_number(&input, 8) & ((1ULL << COUNTER_BITS) - 1);
			break;
		case 1: /* ahead */
			counter = list->highest + input_number(&input, 2);
			break;
		case 2: /* behind */
			counter = list->highest - input_number(&input, 2);
			break;
		default: /* one that was accepted */
			counter = list->count ?
				list->accepted[input_number(&input, 2) % list->count] : 0;
		}
		if (counter >> COUNTER_BITS || list->count == WINDOW_LIST)
			continue;
		would = window_would(list, counter);
		/* alone on this CPU, `fresh` and `mark` agree */
		MUST(replay_fresh(windows, lane, counter) == would);
		MUST(replay_mark(windows, lane, counter) == would);
		if (would)
			window_add(list, counter);
		MUST(!replay_mark(windows, lane, counter));
	}
	free(windows);
	return 0;
}
