/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The one function that writes associations and boxes. See control.h for who
 * calls it and association.h for why there is one, and in what order it writes.
 */
#ifndef BRINE_CONTROL_PROGRAM_H
#define BRINE_CONTROL_PROGRAM_H

#include "association.h"
#include "control.h"
#include "maps.h"
#include "salsa20.h"

#define CONTROL_SECOND_NS 1000000000ULL

/* Thirty-two bytes of a request. */
struct control_key {
	__u64 word[KEY_SIZE / 8];
};

/* The verifier wants a context read at constant offsets from its pointer, and
 * the compiler would rather keep the address of a field: hence assembly. A native
 * build has its own. */
#ifndef CONTROL_WORD
#define CONTROL_WORD(request, field, i) ({					\
	__u64 value;								\
	asm volatile("%0 = *(u64 *)(%1 + %2)"					\
		     : "=r"(value)						\
		     : "r"(request), "i"(__builtin_offsetof(			\
			     struct control_request, field) + 8 * (i)));	\
	value;									\
})
#endif

#define CONTROL_KEY(request, field) ((struct control_key){ {			\
	CONTROL_WORD(request, field, 0), CONTROL_WORD(request, field, 1),	\
	CONTROL_WORD(request, field, 2), CONTROL_WORD(request, field, 3) } })

static __always_inline void control_store(void *into, struct control_key key)
{
	__builtin_memcpy(into, &key, KEY_SIZE);
}

/* Zero if the keys are equal. The barriers keep LLVM from stopping at the first
 * word that tells. */
static __always_inline __u64 control_difference(struct control_key a,
						struct control_key b)
{
	__u64 any = (a.word[0] ^ b.word[0]) | (a.word[1] ^ b.word[1]) |
		    (a.word[2] ^ b.word[2]) | (a.word[3] ^ b.word[3]);

	barrier_var(any);
	return any;
}

static __always_inline int control_is_zero(struct control_key key)
{
	__u64 any = key.word[0] | key.word[1] | key.word[2] | key.word[3];

	barrier_var(any);
	return !any;
}

/* Counters, or windows, of one pair start at zero. */
static __always_inline int control_reset(__u32 number, enum direction direction,
					 __u32 pair)
{
	__u32 key = number * PAIRS + pair;
	int lane, word;

	if (direction == DIRECTION_SEND) {
		struct counters *counter = bpf_map_lookup_elem(&counters, &key);

		if (!counter)
			return -1;
#pragma clang loop unroll(disable)
		for (lane = 0; lane < LANES; lane++)
			counter->lane[lane].next = 0;
	} else {
		struct windows *window = bpf_map_lookup_elem(&windows, &key);

		if (!window)
			return -1;
#pragma clang loop unroll(disable)
		for (lane = 0; lane < LANES; lane++) {
			window->lane[lane].highest = 0;
#pragma clang loop unroll(disable)
			for (word = 0; word < WINDOW_WORDS; word++)
				window->lane[lane].words[word] = 0;
		}
	}
	return 0;
}

/* Give an EMPTY, rested slot a new tenant, generation 0; the caller owns its
 * association. HSalsa20(K, N), given in `from`, goes into the box; the exchange
 * of its state comes after every other write. Returns 0, or -1: not written. */
static __always_inline int control_fill_box(__u32 number, enum direction direction,
					    __u64 now, __u32 peer, __u32 index,
					    struct hsalsa20 *from, __u64 not_after)
{
	__u32 pair = pair_index(0, 0);
	struct box *box = box_at(number, direction, pair);
	__u64 life;

	if (!box || now < box->rest_until)
		return -1;
	life = life_read(&box->state);
	if (life_state(life) != BOX_EMPTY ||
	    !life_swap(&box->state, life, life_next(life, BOX_CLAIMED)))
		return -1;
	life = life_next(life, BOX_PUBLISHED);
	hsalsa20(from);
	__builtin_memcpy(box->subkey, from->output, KEY_SIZE);
	box->sender_generation = 0;
	box->receiver_generation = 0;
	box->peer = peer;
	box->index = index;
	box->not_after = not_after;
	if (control_reset(number, direction, pair))
		life = life_with(life, BOX_CLAIMED); /* never: stays out of use */
	life_store(&box->state, life);
	return 0;
}

/* Whatever the slot holds, gone. The caller owns the association. */
static __always_inline void control_wipe_box(struct box *box, __u64 rest_until)
{
	__u64 life = life_read(&box->state);

	if (life_state(life) == BOX_EMPTY)
		return;
	life = life_next(life, BOX_CLAIMED);
	life_store(&box->state, life);
	__builtin_memset(box->subkey, 0, KEY_SIZE);
	box->not_after = 0;
	box->rest_until = rest_until;
	life_store(&box->state, life_with(life, BOX_EMPTY));
}

static __always_inline void control_wipe(struct association *association,
					 __u32 number, __u64 rest_until)
{
	struct box *box;
	__u32 pair;

#pragma clang loop unroll(disable)
	for (pair = 0; pair < BOXES_PER_ASSOCIATION; pair++) {
		box = box_at(number, DIRECTION_SEND, pair); /* and on through RECEIVE */
		if (box)
			control_wipe_box(box, rest_until);
	}
	__builtin_memset(association->secret, 0, KEY_SIZE);
	__builtin_memset(association->send_header_key, 0, KEY_SIZE);
	__builtin_memset(association->receive_header_key, 0, KEY_SIZE);
	__builtin_memset(association->own, 0, sizeof(association->own));
	__builtin_memset(association->peer_public, 0, sizeof(association->peer_public));
}

/* Enter a local index that neither lives nor died just now. Only here and in
 * control_leave_index: an index that we did not enter is not ours to delete. */
static __always_inline int control_enter_index(__u32 index, __u32 number, __u64 now)
{
	__u64 *free_from = bpf_map_lookup_elem(&retired, &index);

	if (free_from && now < *free_from)
		return -1;
	return bpf_map_update_elem(&indices, &index, &number, BPF_NOEXIST) ? -1 : 0;
}

static __always_inline void control_leave_index(__u32 index, __u32 number, __u64 now)
{
	__u32 *owner = bpf_map_lookup_elem(&indices, &index);
	__u64 free_from = now + CONTROL_RETIRE_SECONDS * CONTROL_SECOND_NS;

	if (!owner || *owner != number)
		return;
	bpf_map_update_elem(&retired, &index, &free_from, BPF_ANY);
	bpf_map_delete_elem(&indices, &index);
}

/* Keys that no exchange gives, but a wiped or half-filled request does. */
static __always_inline int control_bad_keys(const struct control_request *request)
{
	struct control_key send = CONTROL_KEY(request, send.key);
	struct control_key receive = CONTROL_KEY(request, receive.key);

	return control_is_zero(CONTROL_KEY(request, secret)) || control_is_zero(send) ||
	       control_is_zero(receive) || !control_difference(send, receive);
}

/* An unused slot of `peers` is zeros, which is nobody's identity. */
static __always_inline int control_is_peer(const struct control_request *request,
					   const struct peer *peer)
{
	struct control_key identity = CONTROL_KEY(request, identity), current;
	int i;

	for (i = 0; i < KEY_SIZE / 8; i++)
		current.word[i] = ((const volatile __u64 *)peer->identity)[i];
	return !control_is_zero(identity) && !control_difference(identity, current);
}

/* Both generation-0 boxes. Returns 0, or -1. */
static __always_inline int control_fill_boxes(const struct control_request *request,
					      __u32 number, __u64 now)
{
	struct hsalsa20 work __attribute__((aligned(8)));
	int result;

	control_store(work.key, CONTROL_KEY(request, send.key));
	*(__u64 *)work.input = CONTROL_WORD(request, send.nonce, 0);
	*(__u64 *)(work.input + 2) = CONTROL_WORD(request, send.nonce, 1);
	result = control_fill_box(number, DIRECTION_SEND, now, request->peer,
				  request->remote_index, &work,
				  request->send_not_after);
	if (!result) {
		control_store(work.key, CONTROL_KEY(request, receive.key));
		*(__u64 *)work.input = CONTROL_WORD(request, receive.nonce, 0);
		*(__u64 *)(work.input + 2) = CONTROL_WORD(request, receive.nonce, 1);
		result = control_fill_box(number, DIRECTION_RECEIVE, now, request->peer,
					  request->local_index, &work,
					  request->receive_not_after);
	}
	__builtin_memset(&work, 0, sizeof(work));
	asm volatile("" : : "r"(&work) : "memory"); /* keeps the wipe */
	return result;
}

static __always_inline int control_install(const struct control_request *request)
{
	__u32 number = request->association, peer = request->peer;
	__u32 index = request->local_index;
	struct association *association = association_at(number);
	struct peer *entry = bpf_map_lookup_elem(&peers, &peer);
	__u64 life, now = bpf_ktime_get_boot_ns();

	if (!association || !entry || request->initiated > 1 || control_bad_keys(request))
		return CONTROL_BAD_REQUEST;
	if (!control_is_peer(request, entry))
		return CONTROL_WRONG_PEER;
	life = life_read(&association->state);
	if (life_state(life) != ASSOCIATION_FREE)
		return CONTROL_NOT_FREE;
	if (association->created &&
	    now < association->created + CONTROL_REST_SECONDS * CONTROL_SECOND_NS)
		return CONTROL_RESTING;
	if (!life_swap(&association->state, life, life_next(life, ASSOCIATION_CLAIMED)))
		return CONTROL_BUSY;
	life = life_next(life, ASSOCIATION_FREE);
	RACE(RACE_CONTROL_CLAIMED, number);
	/* Again: whoever takes a peer out clears its identity, then erases what is
	 * not FREE. Either that one sees our claim, or we see the identity gone. */
	if (!control_is_peer(request, entry)) {
		life_store(&association->state, life);
		return CONTROL_WRONG_PEER;
	}
	/* A packet of this index meets a CLAIMED association: dropped. */
	if (control_enter_index(index, number, now)) {
		life_store(&association->state, life);
		return CONTROL_INDEX_TAKEN;
	}
	association->peer = peer;
	association->local_index = index;
	association->remote_index = request->remote_index;
	association->created = now;
	association->send_not_after = request->send_not_after;
	association->receive_not_after = request->receive_not_after;
	association->initiated = request->initiated;
	association->own_generation = 0;
	association->peer_generation = 0;
	control_store(association->secret, CONTROL_KEY(request, secret));
	control_store(association->send_header_key, CONTROL_KEY(request, send_header_key));
	control_store(association->receive_header_key,
		      CONTROL_KEY(request, receive_header_key));
	control_store(association->own[0].private, CONTROL_KEY(request, own_private));
	control_store(association->own[0].public, CONTROL_KEY(request, own_public));
	control_store(association->peer_public[0], CONTROL_KEY(request, peer_public));
	if (control_fill_boxes(request, number, now)) {
		control_leave_index(index, number, now);
		control_wipe(association, number,
			     now + CONTROL_REST_SECONDS * CONTROL_SECOND_NS);
		life_store(&association->state, life);
		return CONTROL_RESTING;
	}
	life_store(&association->state,
		   life_with(life, request->initiated ? ASSOCIATION_UNCONFIRMED :
							ASSOCIATION_PENDING));
	return CONTROL_DONE;
}

static __always_inline int control_publish(__u32 number)
{
	struct association *association = association_at(number);
	struct peer_state *state;
	__u64 life;
	__u32 peer;

	if (!association)
		return CONTROL_BAD_REQUEST;
	life = life_read(&association->state);
	if (life_state(life) < ASSOCIATION_UNCONFIRMED)
		return CONTROL_NO_ASSOCIATION;
	peer = association->peer;
	state = bpf_map_lookup_elem(&peer_states, &peer);
	if (!state)
		return CONTROL_BAD_REQUEST;
	association_publish(association, number, life, state);
	return CONTROL_DONE;
}

static __always_inline int control_erase(__u32 number)
{
	struct association *association = association_at(number);
	__u64 life, now = bpf_ktime_get_boot_ns();
	struct peer_state *state;
	__u32 peer;

	if (!association)
		return CONTROL_BAD_REQUEST;
	life = life_read(&association->state);
	if (life_state(life) == ASSOCIATION_FREE)
		return CONTROL_DONE; /* and wiped: nothing becomes FREE otherwise */
	if (life_state(life) == ASSOCIATION_CLAIMED)
		return CONTROL_BUSY;
	/* From here neither program takes it up, and a packet that would confirm it
	 * loses its compare-and-swap. One that has just won it makes us look again:
	 * that happens once in the life of an association. */
	if (!life_swap(&association->state, life, life_next(life, ASSOCIATION_CLAIMED))) {
		life = life_read(&association->state);
		if (life_state(life) < ASSOCIATION_PENDING ||
		    !life_swap(&association->state, life,
			       life_next(life, ASSOCIATION_CLAIMED)))
			return CONTROL_BUSY;
	}
	life = life_next(life, ASSOCIATION_FREE);
	peer = association->peer;
	state = bpf_map_lookup_elem(&peer_states, &peer);
	if (state)
		__sync_val_compare_and_swap(&state->sending, number + 1, 0);
	control_leave_index(association->local_index, number, now);
	association->created = now;
	control_wipe(association, number, now + CONTROL_REST_SECONDS * CONTROL_SECOND_NS);
	life_store(&association->state, life);
	return CONTROL_DONE;
}

/* Whatever came of it, the kernel's copy of the keys ends here, and the caller
 * gets zeros back. */
static __always_inline void control_forget(struct control_request *request)
{
	__builtin_memset(request->secret, 0,
			 sizeof(*request) - __builtin_offsetof(struct control_request, secret));
}

SEC("syscall")
int control(struct control_request *request)
{
	int result = CONTROL_BAD_REQUEST;

	switch (request->operation) {
	case CONTROL_INSTALL:
		result = control_install(request);
		break;
	case CONTROL_PUBLISH:
		result = control_publish(request->association);
		break;
	case CONTROL_ERASE:
		result = control_erase(request->association);
		break;
	}
	control_forget(request);
	return result;
}

#endif
