/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The daemon's side of the association maps. See control.h for who calls it,
 * and association.h and ratchet.h for why it writes in the order it does.
 * control_ratchet.h has what it does to a living association's ratchet.
 */
#ifndef BRINE_CONTROL_PROGRAM_H
#define BRINE_CONTROL_PROGRAM_H

#include "association.h"
#include "control.h"
#include "control_ratchet.h"
#include "maps.h"
#include "pair.h"

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

/* The sub-keys of both boxes given: HSalsa20(K, N). */
static __always_inline void control_subkeys(const struct control_request *request,
					    struct pair *pair)
{
	struct hsalsa20 *work = &pair->derive.hsalsa20;
	int i;

	control_store(work->key, CONTROL_KEY(request, send.key));
	*(__u64 *)work->input = CONTROL_WORD(request, send.nonce, 0);
	*(__u64 *)(work->input + 2) = CONTROL_WORD(request, send.nonce, 1);
	hsalsa20(work);
	for (i = 0; i < DERIVE_SUBKEY_WORDS; i++)
		pair->send_subkey[i] = work->output[i];
	control_store(work->key, CONTROL_KEY(request, receive.key));
	*(__u64 *)work->input = CONTROL_WORD(request, receive.nonce, 0);
	*(__u64 *)(work->input + 2) = CONTROL_WORD(request, receive.nonce, 1);
	hsalsa20(work);
	for (i = 0; i < DERIVE_SUBKEY_WORDS; i++)
		pair->receive_subkey[i] = work->output[i];
}

static __always_inline void control_wipe_secrets(struct association *association)
{
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
	__u64 free_from = now + CONTROL_RETIRE_SECONDS * SECOND_NS;

	if (!owner || *owner != number)
		return;
	bpf_map_update_elem(&retired, &index, &free_from, BPF_ANY);
	bpf_map_delete_elem(&indices, &index);
}

/* Keys that no exchange gives, but a wiped or half-filled request does. */
static __always_inline int control_bad_boxes(const struct control_request *request)
{
	struct control_key send = CONTROL_KEY(request, send.key);
	struct control_key receive = CONTROL_KEY(request, receive.key);

	return control_is_zero(send) || control_is_zero(receive) ||
	       !control_difference(send, receive);
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

/* Claim, fill and publish the boxes of generation 0. Returns 0, or -1: the slot is
 * not empty. The caller owns the association. */
static __always_inline int control_fill(const struct control_request *request,
					struct association *association,
					struct pair *pair)
{
	struct box *send = pair_send(pair->association, 0, 0);
	struct box *receive = pair_receive(pair->association, 0, 0);
	__u64 life;

	if (!send || !receive)
		return -1;
	life = life_read(receive);
	pair->claimed = life_next(life, BOX_CLAIMED);
	if (life_state(life) != BOX_EMPTY || !life_swap(receive, life, pair->claimed))
		return -1;
	pair->seen = ratchet_read(association);
	pair->own = pair->peer = 0;
	control_store(&pair->peer_public, CONTROL_KEY(request, peer_public));
	control_subkeys(request, pair);
	pair_publish(association, pair, send, receive);
	return 0;
}

static __always_inline int control_install(const struct control_request *request,
					   struct pair *pair)
{
	__u32 number = request->association, peer = request->peer;
	__u32 index = request->local_index;
	struct association *association = association_at(number);
	struct peer *entry = bpf_map_lookup_elem(&peers, &peer);
	__u64 life, now = bpf_ktime_get_boot_ns();
	union ratchet_word word;

	if (!association || !entry || request->initiated > 1 ||
	    control_is_zero(CONTROL_KEY(request, secret)) || control_bad_boxes(request))
		return CONTROL_BAD_REQUEST;
	if (!control_is_peer(request, entry))
		return CONTROL_WRONG_PEER;
	life = life_read(association);
	if (life_state(life) != ASSOCIATION_FREE)
		return CONTROL_NOT_FREE;
	if (association->created &&
	    now < association->created + CONTROL_REST_SECONDS * SECOND_NS)
		return CONTROL_RESTING;
	if (!life_swap(association, life, life_next(life, ASSOCIATION_CLAIMED)))
		return CONTROL_BUSY;
	life = life_next(life, ASSOCIATION_FREE);
	RACE(RACE_CONTROL_CLAIMED, number);
	/* Again: whoever takes a peer out clears its identity, then erases what is
	 * not FREE. Either that one sees our claim, or we see the identity gone. */
	if (!control_is_peer(request, entry)) {
		life_store(association, life);
		return CONTROL_WRONG_PEER;
	}
	/* A packet of this index meets a CLAIMED association: dropped. */
	if (control_enter_index(index, number, now)) {
		life_store(association, life);
		return CONTROL_INDEX_TAKEN;
	}
	association->peer = peer;
	association->local_index = index;
	association->remote_index = request->remote_index;
	association->created = now;
	association->send_not_after = request->send_not_after;
	association->receive_not_after = request->receive_not_after;
	association->initiated = request->initiated;
	association->own_since[0] = association->own_since[1] = now;
	association->peer_since[0] = association->peer_since[1] = now;
	association->own_used_at = now;
	association->own_rest_until = 0;
	association->derivations = 0;
	association->peer_moved = now & ~0xffULL; /* generation 0 */
	control_store(association->secret, CONTROL_KEY(request, secret));
	control_store(association->send_header_key, CONTROL_KEY(request, send_header_key));
	control_store(association->receive_header_key,
		      CONTROL_KEY(request, receive_header_key));
	control_store(association->own[0].private, CONTROL_KEY(request, own_private));
	control_store(association->own[0].public, CONTROL_KEY(request, own_public));
	control_store(association->peer_public[0], CONTROL_KEY(request, peer_public));
	/* Generations 0, no flags. Nobody swaps the word of one that is CLAIMED. */
	word = ratchet_read(association);
	word.all = (__u64)word.is.instance << 48;
	__sync_lock_test_and_set((__u64 *)&association->ratchet, word.all);
	pair->association = number;
	pair->now = now;
	if (control_fill(request, association, pair)) {
		control_leave_index(index, number, now);
		control_wipe_secrets(association);
		life_store(association, life);
		return CONTROL_AGAIN;
	}
	life_store(association, life_with(life, request->initiated ?
							ASSOCIATION_UNCONFIRMED :
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
	life = life_read(association);
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
	life = life_read(association);
	if (life_state(life) == ASSOCIATION_FREE)
		return CONTROL_DONE; /* and wiped: nothing becomes FREE otherwise */
	if (life_state(life) == ASSOCIATION_CLAIMED)
		return CONTROL_BUSY;
	/* From here neither program takes it up, and a packet that would confirm it
	 * loses its compare-and-swap. One that has just won it makes us look again:
	 * that happens once in the life of an association. */
	if (!life_swap(association, life, life_next(life, ASSOCIATION_CLAIMED))) {
		life = life_read(association);
		if (life_state(life) < ASSOCIATION_PENDING ||
		    !life_swap(association, life, life_next(life, ASSOCIATION_CLAIMED)))
			return CONTROL_BUSY;
	}
	life = life_next(life, ASSOCIATION_FREE);
	peer = association->peer;
	state = bpf_map_lookup_elem(&peer_states, &peer);
	if (state)
		__sync_val_compare_and_swap(&state->sending, number + 1, 0);
	control_leave_index(association->local_index, number, now);
	/* A CPU that makes a pair meanwhile reads the keys until it has published:
	 * then all is left as it is, for the next call. */
	if (control_leave_instance(association) || control_wipe_pairs(number)) {
		life_store(association, life_with(life, ASSOCIATION_ERASING));
		return CONTROL_AGAIN;
	}
	control_wipe_secrets(association);
	association->created = now;
	life_store(association, life);
	return CONTROL_DONE;
}

/* Whatever came of it, the kernel's copy of the keys ends here, and the caller
 * gets zeros back. */
static __always_inline void control_forget(struct control_request *request)
{
	__builtin_memset(request->secret, 0,
			 sizeof(*request) - __builtin_offsetof(struct control_request, secret));
}

static __always_inline int control_run(struct control_request *request, struct pair *pair)
{
	switch (request->operation) {
	case CONTROL_INSTALL:
		return control_install(request, pair);
	case CONTROL_PUBLISH:
		return control_publish(request->association);
	case CONTROL_ERASE:
		return control_erase(request->association);
	case CONTROL_ROTATE:
		if (control_is_zero(CONTROL_KEY(request, own_private)) ||
		    control_is_zero(CONTROL_KEY(request, own_public)))
			return CONTROL_BAD_REQUEST;
		pair->association = request->association;
		pair->own = request->own_generation;
		control_store(&pair->own_private, CONTROL_KEY(request, own_private));
		control_store(&pair->own_public, CONTROL_KEY(request, own_public));
		return control_rotate(pair);
	case CONTROL_DERIVE:
		pair->association = request->association;
		return control_derive(pair);
	case CONTROL_DERIVE_PAIR:
		if (request->keyed > 1)
			return CONTROL_BAD_REQUEST;
		pair->association = request->association;
		pair->own = request->own_generation;
		pair->peer = request->peer_generation;
		pair->announced = request->keyed;
		pair->seen.is.instance = request->instance;
		control_store(&pair->peer_key, CONTROL_KEY(request, peer_public));
		return control_derive_pair(pair);
	case CONTROL_RETIRE:
		return control_retire(request->association);
	}
	return CONTROL_BAD_REQUEST;
}

SEC("syscall")
int control(struct control_request *request)
{
	struct control_area *area;
	int result = CONTROL_BUSY;
	__u32 zero = 0;

	area = bpf_map_lookup_elem(&control_areas, &zero);
	/* Callers take turns; should they not, one of them is told so. */
	if (area && !__sync_lock_test_and_set(&area->taken, 1)) {
		result = control_run(request, &area->pair);
		pair_forget(&area->pair);
		__sync_lock_test_and_set(&area->taken, 0);
	}
	control_forget(request);
	return result;
}

#endif
