/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The data path with the work of another CPU inside it: at a chosen place of
 * `seal` or `open` the association in hand is erased and, if asked, installed
 * anew, as `control` would do it meanwhile. test_races.py sets `race`.
 */
#include <linux/types.h>

/* Where a pair is made: there is no room for an INSTALL on the stack. */
#define RACE(place, association) race_pair(place, association)
static int race_pair(__u32 place, __u32 association);

#include "pair.h"

#undef RACE
#define RACE(place, association) race_at(place, association)
static int race_at(__u32 place, __u32 association);

#include "maps.h"
#include "seal.h"
#include "open.h"

/* `control` is raced too, but not where it is itself the race. */
#undef RACE
#define RACE(place, association) race_control(place)
static int race_control(__u32 place);

#include "control_program.h"

enum race_action {
	RACE_ERASE = 1,
	RACE_RENEW = 2, /* erase, then install `request` and publish it */
	RACE_MOVE_WINDOW = 3, /* mark counter WINDOW_BITS, on lane 0 */
	RACE_CLEAR_PEER = 4, /* the identity of request.peer; in `control` only */
	RACE_RETIRE = 5,
	RACE_RATCHET = 6, /* move the ratchet to `word`; where a pair is made only */
	RACE_LEAVE_AND_RETIRE = 7, /* data moves on before: the ratchet to `word` */
};

struct race {
	enum race_place place; /* 0: none */
	enum race_action action;
	__u32 done; /* how often it came to the place */
	__s32 result; /* of INSTALL, RETIRE, or ERASE alone */
	__u64 word;
	struct control_request request;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pair);
} race_pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct race);
} race SEC(".maps");

/* Ten seconds pass. */
static __noinline int race_rest(__u32 number)
{
	struct association *association = association_at(number);

	if (!association)
		return -1;
	association->created = 0;
	return 0;
}

static __noinline int race_erase(__u32 number)
{
	return control_erase(number);
}

static __noinline int race_install(struct race *race)
{
	__u32 zero = 0;
	struct pair *pair = bpf_map_lookup_elem(&race_pairs, &zero);

	return pair ? control_install(&race->request, pair) : -1;
}

static __noinline int race_move_window(__u32 number)
{
	__u32 key = number * PAIRS;
	struct windows *window = bpf_map_lookup_elem(&windows, &key);

	if (!window)
		return -1;
	/* Another CPU's mark of a counter one turn on, which it has not made the
	 * highest yet. */
	window->lane[0].words[0] = 1ULL << 32 | 1;
	return 0;
}

static __noinline int race_ratchet(__u32 number, __u64 word)
{
	struct association *association = association_at(number);

	if (!association)
		return -1;
	__sync_lock_test_and_set((__u64 *)&association->ratchet, word);
	return 0;
}

static __noinline int race_control(__u32 place)
{
	__u32 zero = 0, number;
	struct race *given = bpf_map_lookup_elem(&race, &zero);
	struct peer *peer;

	if (!given || given->place != place)
		return 0;
	given->done++;
	number = given->request.peer;
	peer = bpf_map_lookup_elem(&peers, &number);
	if (peer)
		__builtin_memset(peer->identity, 0, KEY_SIZE);
	return 0;
}

static __noinline int race_pair(__u32 place, __u32 association)
{
	__u32 zero = 0;
	struct race *given = bpf_map_lookup_elem(&race, &zero);

	if (!given || given->place != place)
		return 0;
	given->done++;
	if (given->action == RACE_RATCHET)
		given->result = race_ratchet(association, given->word);
	else if (given->action == RACE_RETIRE)
		given->result = control_retire(association);
	else
		given->result = race_erase(association);
	return 0;
}

static __noinline int race_at(__u32 place, __u32 association)
{
	__u32 zero = 0;
	struct race *given = bpf_map_lookup_elem(&race, &zero);

	if (!given || given->place != place)
		return 0;
	given->done++;
	if (given->action == RACE_MOVE_WINDOW)
		return race_move_window(association);
	if (given->action == RACE_LEAVE_AND_RETIRE)
		race_ratchet(association, given->word);
	if (given->action == RACE_RETIRE || given->action == RACE_LEAVE_AND_RETIRE) {
		given->result = control_retire(association);
		return 0;
	}
	given->result = race_erase(association);
	if (given->action == RACE_RENEW) {
		race_rest(association);
		given->result = race_install(given);
		control_publish(association);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
