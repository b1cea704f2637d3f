/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Receive: XDP on the underlay device. Index -> association -> box (made here, if
 * it may be: open_pair.h) -> replay -> Poly1305 -> mark -> decrypt -> ratchet ->
 * inner source -> brine0. What is not ours goes to the stack, unless it claims a
 * mesh address in the clear.
 */
#ifndef BRINE_OPEN_H
#define BRINE_OPEN_H

#include "admission.h"
#include "association.h"
#include "ecn.h"
#include "former.h"
#include "open_pair.h"
#include "open_parse.h"
#include "packet.h"
#include "replay.h"
#include "roaming.h"
#include "secretbox.h"
#include "stat.h"

struct open_area {
	struct open_packet packet;
	struct open_header header;
	struct ratchet_opened opened;
	__u64 fence;
	struct secretbox work;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open_area);
} open_areas SEC(".maps");

/* Tell the daemon of `association`. */
static __always_inline void open_tell(const struct open_packet *packet,
				      enum event_kind kind)
{
	struct event event = {
		.kind = kind,
		.peer = packet->peer,
		.association = packet->association,
	};

	/* A full ring loses the event, not the state: the daemon also looks. */
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
}

/* The first packet that authenticates confirms an association; a responder
 * begins to send on it here, without waiting for the daemon. */
static __always_inline void open_confirm(const struct open_packet *packet,
					 struct association *association,
					 struct peer_state *state)
{
	__u64 life = packet->association_life;

	if (life_state(life) == ASSOCIATION_CONFIRMED)
		return;
	/* Of several CPUs one succeeds; none, if it was erased meanwhile. */
	if (!life_swap(association, life, life_with(life, ASSOCIATION_CONFIRMED)))
		return;
	if (life_state(life) == ASSOCIATION_PENDING)
		association_publish(association, packet->association, life, state);
	open_tell(packet, EVENT_CONFIRMED); /* it works both ways */
}

/* Put the combined ECN codepoint into the inner header. Returns 0, or -1: the
 * network marked congestion that the inner sender could not hear of. */
static __always_inline int open_ecn(struct open_area *area)
{
	const struct inner *inner = &area->packet.inner;
	__u8 *text = area->work.text;
	int ecn = ecn_decapsulate(inner->traffic_class, area->packet.traffic_class);

	if (ecn < 0)
		return -1;
	if (ecn == (inner->traffic_class & ECN_MASK))
		return 0;
	if (inner->ethertype == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (struct iphdr *)text;
		/* RFC 1624, eqn. 3, on the word that holds the field; the sums
		 * are below 2^18 */
		__u32 old = bpf_ntohs(*(__be16 *)text), sum;

		ip->tos = (ip->tos & ~ECN_MASK) | ecn;
		sum = (~bpf_ntohs(ip->check) & 0xffff) + (~old & 0xffff) +
		      bpf_ntohs(*(__be16 *)text);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		ip->check = bpf_htons(~sum & 0xffff);
	} else {
		text[1] = (text[1] & ~(ECN_MASK << 4)) | ecn << 4;
	}
	return 0;
}

/* Does the packet, which has opened, say anything of the ratchet? Mostly not: it came
 * on the pair that we send on, of the newest keys known, and both are in use. */
static __always_inline int open_moves(const struct message_data *data,
				      const struct association *association)
{
	union ratchet_word word = ratchet_read(association);

	return data->sender_generation != word.is.peer_current ||
	       ratchet_announces(word) ||
	       data->sender_generation != (__u8)association->peer_moved ||
	       data->type == MESSAGE_DATA_KEYED;
}

static __always_inline void open_ratchet(struct open_area *area)
{
	const struct message_data *data = &area->header.data;
	struct ratchet_opened *opened = &area->opened;

	opened->seen = area->packet.ratchet;
	opened->now = area->packet.now;
	opened->association = area->packet.association;
	opened->own = data->receiver_generation;
	opened->peer = data->sender_generation;
	opened->data = data->type == MESSAGE_DATA;
	if (ratchet_move(opened) > 0 || data->type == MESSAGE_DATA_KEYED)
		open_tell(&area->packet, EVENT_RATCHET);
}

/* Turn the frame into Ethernet ‖ inner packet and hand it to brine0. */
static __always_inline int open_deliver(struct xdp_md *ctx, struct open_area *area,
					const struct config *settings,
					__u32 header_size)
{
	const struct open_packet *packet = &area->packet;
	struct ethhdr eth = { .h_proto = packet->inner.ethertype };
	/* both are exact: text starts at udp + 8 + header_size */
	int shift = packet->udp + UDP_HEADER + header_size - ETH_HLEN;

	if (packet->received != packet->frame &&
	    bpf_xdp_adjust_tail(ctx, (int)packet->frame - (int)packet->received))
		return STAT_OPEN_ERROR;
	if (bpf_xdp_adjust_head(ctx, shift))
		return STAT_OPEN_ERROR;
	__builtin_memcpy(eth.h_dest, settings->brine0_mac, ETH_ALEN);
	__builtin_memcpy(eth.h_source, settings->brine0_mac, ETH_ALEN);
	if (bpf_xdp_store_bytes(ctx, 0, &eth, sizeof(eth)) ||
	    bpf_xdp_store_bytes(ctx, ETH_HLEN, area->work.text,
				HELPER_LENGTH(packet->length)))
		return STAT_OPEN_ERROR;
	return STAT_OPEN_OK;
}

/* Take what the packet needs of its box: see association.h. Returns 0, or the
 * reason to drop. */
static __always_inline int open_take(struct open_area *area, const struct box *box)
{
	const struct message_data *data = &area->header.data;
	struct open_packet *packet = &area->packet;

	RACE(RACE_OPEN_FOUND, packet->association);
	packet->box_life = life_read(box);
	if (life_tenant(packet->box_life) != box_tenant(BOX_PUBLISHED,
							data->sender_generation,
							data->receiver_generation))
		return STAT_OPEN_NO_BOX;
	fence(&area->fence);
	RACE(RACE_OPEN_ALIVE, packet->association);
	/* The index ties the box to the association that the packet names. */
	if (box->index != data->receiver)
		return STAT_OPEN_NO_BOX;
	if (packet->now >= box->not_after)
		return STAT_OPEN_EXPIRED;
	packet->peer = box->peer;
	__builtin_memcpy(area->work.subkey, box->subkey, KEY_SIZE);
	/* A key that may be adopted: here, since a wiped box has another. */
	if (data->sender_generation != packet->ratchet.is.peer_current)
		__builtin_memcpy(&area->opened.peer_public, box->peer_public, KEY_SIZE);
	RACE(RACE_OPEN_COPIED, packet->association);
	return 0;
}

/* Authenticate, mark and decrypt work.text. Returns 0, or the reason to drop. */
static __always_inline int open_box(struct open_area *area, const struct box *box)
{
	const struct message_data *data = &area->header.data;
	struct secretbox *work = &area->work;
	struct windows *window;
	__u32 key;
	int reason;

	reason = open_take(area, box);
	if (reason)
		return reason;
	key = area->packet.association * PAIRS +
	      pair_index(data->sender_generation, data->receiver_generation);
	window = bpf_map_lookup_elem(&windows, &key);
	if (!window)
		return STAT_OPEN_ERROR;
	if (!replay_fresh(window, data->lane, data->counter))
		return STAT_OPEN_REPLAY;
	work->nonce = (__u64)data->lane << 56 | data->counter;
	if (secretbox_verify(work, area->packet.length))
		return STAT_OPEN_FORGED;
	RACE(RACE_OPEN_VERIFIED, area->packet.association);
	if (!replay_mark(window, data->lane, data->counter))
		return STAT_OPEN_REPLAY;
	RACE(RACE_OPEN_MARKED, area->packet.association);
	/* The mark was a full fence. */
	if (life_read(box) != area->packet.box_life)
		return STAT_OPEN_NO_BOX;
	RACE(RACE_OPEN_TAKEN, area->packet.association);
	if (secretbox_decrypt(work, area->packet.length))
		return STAT_OPEN_ERROR;
	return 0;
}

/* Is the text an IP packet of its length from an address this peer may use? */
static __always_inline int open_inner(struct open_area *area)
{
	struct inner *inner = &area->packet.inner;

	/* A header cut short would read what lay in the area before: exact
	 * lengths exclude it. */
	if (area->packet.length < IPV4_HEADER || inner_parse(area->work.text, inner) ||
	    inner->length != area->packet.length)
		return STAT_OPEN_INNER;
	if (route_peer(route_lookup(&inner->source)) != area->packet.peer)
		return STAT_OPEN_SOURCE;
	if (open_ecn(area))
		return STAT_OPEN_ECN;
	return 0;
}

SEC("xdp.frags")
int open(struct xdp_md *ctx)
{
	struct association *association;
	struct peer_state *state;
	struct open_packet *packet;
	struct config *settings;
	struct traffic *traffic_of;
	struct open_area *area;
	struct secretbox *work;
	struct box *box;
	__u32 zero = 0, size, header_size, at, *number;
	enum open_kind kind;
	int reason;
	__u8 type;

	settings = bpf_map_lookup_elem(&config, &zero);
	area = bpf_map_lookup_elem(&open_areas, &zero);
	if (!settings || !area)
		return XDP_DROP;
	work = &area->work;
	packet = &area->packet;
	packet->length = 0;
	kind = open_parse(ctx, settings, packet);
	if (kind >= OPEN_OTHER) {
		reason = STAT_OPEN_PLAINTEXT;
		if (kind == OPEN_OTHER && open_plaintext(packet))
			goto drop;
		stat_count(STAT_OPEN_PASS_OTHER, 0);
		return XDP_PASS;
	}
	reason = STAT_OPEN_MALFORMED;
	if (kind != OPEN_OURS)
		goto drop;
	packet->now = bpf_ktime_get_boot_ns();
	at = packet->udp + UDP_HEADER;
	size = packet->frame - at;
	if (size < sizeof(struct message_data) || size > 0xffff ||
	    bpf_xdp_load_bytes(ctx, at, &area->header, sizeof(struct message_data)))
		goto drop;
	type = area->header.data.type;
	header_size = sizeof(struct message_data);
	if (type == MESSAGE_DATA_KEYED) {
		header_size = sizeof(struct message_data_keyed);
		if (size < header_size ||
		    bpf_xdp_load_bytes(ctx, at, &area->header,
				       sizeof(struct message_data_keyed)))
			goto drop;
		__builtin_memcpy(work->tag, area->header.keyed.tag, TAG_SIZE);
	} else if (type == MESSAGE_DATA) {
		__builtin_memcpy(work->tag, area->header.data.tag, TAG_SIZE);
	} else {
		return open_exchange(ctx, packet, &area->header.data, size);
	}
	packet->length = size - header_size;
	if (area->header.data.lane >= LANES ||
	    area->header.data.counter >> COUNTER_BITS ||
	    packet->length > SECRETBOX_TEXT_MAX)
		goto drop;

	number = bpf_map_lookup_elem(&indices, &area->header.data.receiver);
	if (!number) {
		bpf_tail_call(ctx, &former_open, 0);
		return open_unknown(packet);
	}
	packet->association = *number;
	association = association_at(packet->association);
	box = box_at(packet->association, DIRECTION_RECEIVE,
		     pair_index(area->header.data.sender_generation,
				area->header.data.receiver_generation));
	reason = STAT_OPEN_NO_BOX;
	if (!association || !box)
		goto drop;
	packet->association_life = life_read(association);
	if (life_state(packet->association_life) < ASSOCIATION_PENDING)
		goto drop;
	packet->ratchet = ratchet_read(association);
	/* A peer sends no DATA under a key that we have not answered to. */
	if (type == MESSAGE_DATA && area->header.data.sender_generation ==
					    packet->ratchet.is.peer_current + 1)
		goto drop;
	if (life_tenant(life_read(box)) !=
	    box_tenant(BOX_PUBLISHED, area->header.data.sender_generation,
		       area->header.data.receiver_generation)) {
		reason = open_pair(&area->header, packet->association,
				   packet->ratchet.all,
				   life_state(packet->association_life) ==
					   ASSOCIATION_CONFIRMED,
				   packet->now);
		if (reason)
			goto drop;
	}
	reason = STAT_OPEN_ERROR;
	if (packet->length && bpf_xdp_load_bytes(ctx, at + header_size, work->text,
						 HELPER_LENGTH(packet->length)))
		goto drop;
	reason = open_box(area, box);
	secretbox_forget(work);
	if (reason)
		goto drop;

	reason = STAT_OPEN_ERROR;
	state = bpf_map_lookup_elem(&peer_states, &packet->peer);
	if (!state)
		goto drop;
	open_confirm(packet, association, state);
	if (open_moves(&area->header.data, association))
		open_ratchet(area);
	roaming_follow(packet, &area->header.data, state);
	peer_state_touch(&state->last_received, packet->now);
	if (!packet->length) {
		reason = STAT_OPEN_KEEPALIVE;
		goto drop; /* it has done its work */
	}
	reason = open_inner(area);
	if (reason)
		goto drop;
	reason = open_deliver(ctx, area, settings, header_size);
	if (reason != STAT_OPEN_OK)
		goto drop;
	peer_state_touch(&state->last_data_received, packet->now);
	traffic_of = bpf_map_lookup_elem(&traffic, &packet->peer);
	if (traffic_of) {
		traffic_of->received_packets++;
		traffic_of->received_bytes += packet->length;
	}
	stat_count(STAT_OPEN_OK, packet->length);
	return bpf_redirect(settings->inside_ifindex, 0);
drop:
	stat_count(reason, packet->length);
	return XDP_DROP;
}

#endif
