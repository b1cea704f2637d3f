/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The one function that writes associations and boxes. See control.h for who
 * calls it and docs/protocol.md, "A nonce never repeats", for why there is one.
 */
#ifndef BRINE_CONTROL_PROGRAM_H
#define BRINE_CONTROL_PROGRAM_H

#include "association.h"
#include "control.h"
#include "maps.h"
#include "salsa20.h"

/* HSalsa20(K, N) into the box, then the box to its readers. The box was EMPTY:
 * the exchange of its state comes after every other write. */
static __always_inline void control_fill_box(struct box *box,
					     const struct control_box *from,
					     __u64 not_after)
{
	struct hsalsa20 work;

	__builtin_memcpy(work.key, from->key, KEY_SIZE);
	__builtin_memcpy(work.input, from->nonce, 16);
	hsalsa20(&work);
	__builtin_memcpy(box->subkey, work.output, KEY_SIZE);
	__builtin_memset(&work, 0, sizeof(work));
	asm volatile("" : : "r"(&work) : "memory"); /* keeps the wipe */
	box->sender_generation = 0;
	box->receiver_generation = 0;
	box->not_after = not_after;
	__sync_lock_test_and_set(&box->state, BOX_PUBLISHED);
}

static __always_inline void control_wipe_box(struct box *box)
{
	__sync_lock_test_and_set(&box->state, BOX_EMPTY);
	__builtin_memset(box->subkey, 0, KEY_SIZE);
	box->not_after = 0;
}

/* Counters and windows of one pair start at zero. */
static __always_inline int control_reset_pair(__u32 pair)
{
	struct counters *counter = bpf_map_lookup_elem(&counters, &pair);
	struct windows *window = bpf_map_lookup_elem(&windows, &pair);
	int lane, word;

	if (!counter || !window)
		return -1;
#pragma clang loop unroll(disable)
	for (lane = 0; lane < LANES; lane++) {
		counter->lane[lane].next = 0;
		window->lane[lane].highest = 0;
#pragma clang loop unroll(disable)
		for (word = 0; word < WINDOW_WORDS; word++)
			window->lane[lane].words[word] = 0;
	}
	return 0;
}

static __always_inline int control_same_identity(const struct peer *peer,
						 const struct control_request *request)
{
	const __u32 *a = (const __u32 *)peer->identity;
	const __u32 *b = (const __u32 *)request->identity;
	__u32 difference = 0;
	int i;

	for (i = 0; i < KEY_SIZE / 4; i++)
		difference |= a[i] ^ b[i]; /* public keys: nothing to hide */
	return !difference;
}

static __always_inline int control_install(struct control_request *request)
{
	__u32 number = request->association, peer = request->peer;
	__u32 index = request->local_index;
	struct association *association = association_at(number);
	struct peer *entry = bpf_map_lookup_elem(&peers, &peer);
	__u32 send_key = number * BOXES_PER_ASSOCIATION + DIRECTION_SEND * PAIRS;
	__u32 receive_key = number * BOXES_PER_ASSOCIATION + DIRECTION_RECEIVE * PAIRS;
	struct box *send, *receive;

	send = bpf_map_lookup_elem(&boxes, &send_key);
	receive = bpf_map_lookup_elem(&boxes, &receive_key);
	if (!association || !entry || !send || !receive || request->initiated > 1)
		return CONTROL_BAD_REQUEST;
	if (!control_same_identity(entry, request))
		return CONTROL_WRONG_PEER;
	if (association->state != ASSOCIATION_FREE)
		return CONTROL_NOT_FREE;
	if (bpf_map_lookup_elem(&indices, &index))
		return CONTROL_INDEX_TAKEN;
	if (control_reset_pair(number * PAIRS))
		return CONTROL_BAD_REQUEST;

	association->peer = peer;
	association->local_index = index;
	association->remote_index = request->remote_index;
	association->created = bpf_ktime_get_boot_ns();
	association->send_not_after = request->send_not_after;
	association->receive_not_after = request->receive_not_after;
	association->initiated = request->initiated;
	association->own_generation = 0;
	association->peer_generation = 0;
	__builtin_memcpy(association->secret, request->secret, KEY_SIZE);
	__builtin_memcpy(association->send_header_key, request->send_header_key, KEY_SIZE);
	__builtin_memcpy(association->receive_header_key, request->receive_header_key,
			 KEY_SIZE);
	__builtin_memcpy(association->own[0].private, request->own_private, KEY_SIZE);
	__builtin_memcpy(association->own[0].public, request->own_public, KEY_SIZE);
	__builtin_memcpy(association->peer_public[0], request->peer_public, KEY_SIZE);
	control_fill_box(send, &request->send, request->send_not_after);
	control_fill_box(receive, &request->receive, request->receive_not_after);
	__sync_lock_test_and_set(&association->state,
				 request->initiated ? ASSOCIATION_UNCONFIRMED :
						      ASSOCIATION_PENDING);
	if (bpf_map_update_elem(&indices, &index, &number, BPF_NOEXIST))
		return CONTROL_INDEX_TAKEN;
	return CONTROL_DONE;
}

static __always_inline int control_publish(__u32 number)
{
	struct association *association = association_at(number);
	struct peer_state *state;
	__u32 peer;

	if (!association)
		return CONTROL_BAD_REQUEST;
	if (association->state < ASSOCIATION_UNCONFIRMED)
		return CONTROL_NO_ASSOCIATION;
	peer = association->peer;
	state = bpf_map_lookup_elem(&peer_states, &peer);
	if (!state)
		return CONTROL_BAD_REQUEST;
	__sync_lock_test_and_set(&state->sending, number + 1);
	return CONTROL_DONE;
}

static __always_inline int control_erase(__u32 number)
{
	struct association *association = association_at(number);
	struct peer_state *state;
	__u32 peer, index, key, i;
	struct box *box;

	if (!association)
		return CONTROL_BAD_REQUEST;
	peer = association->peer;
	index = association->local_index;
	/* FREE first: neither program takes it up, and a packet that confirms it
	 * meanwhile loses its compare-and-swap. */
	if (__sync_lock_test_and_set(&association->state, ASSOCIATION_FREE) !=
	    ASSOCIATION_FREE) {
		__u32 *owner = bpf_map_lookup_elem(&indices, &index);

		if (owner && *owner == number)
			bpf_map_delete_elem(&indices, &index);
		state = bpf_map_lookup_elem(&peer_states, &peer);
		if (state)
			__sync_val_compare_and_swap(&state->sending, number + 1, 0);
		association->created = bpf_ktime_get_boot_ns();
	}
#pragma clang loop unroll(disable)
	for (i = 0; i < BOXES_PER_ASSOCIATION; i++) {
		key = number * BOXES_PER_ASSOCIATION + i;
		box = bpf_map_lookup_elem(&boxes, &key);
		if (box)
			control_wipe_box(box);
	}
	__builtin_memset(association->secret, 0, KEY_SIZE);
	__builtin_memset(association->send_header_key, 0, KEY_SIZE);
	__builtin_memset(association->receive_header_key, 0, KEY_SIZE);
	__builtin_memset(association->own, 0, sizeof(association->own));
	__builtin_memset(association->peer_public, 0, sizeof(association->peer_public));
	return CONTROL_DONE;
}

SEC("syscall")
int control(struct control_request *request)
{
	switch (request->operation) {
	case CONTROL_INSTALL:
		return control_install(request);
	case CONTROL_PUBLISH:
		return control_publish(request->association);
	case CONTROL_ERASE:
		return control_erase(request->association);
	default:
		return CONTROL_BAD_REQUEST;
	}
}

#endif
