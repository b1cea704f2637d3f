/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Transmit: TC ingress of brine0p, where the stack's packets arrive segmented
 * and checksummed. Destination -> peer -> association -> box -> secretbox ->
 * UDP -> underlay. Whatever goes wrong, the packet dies here: nothing leaves in
 * the clear.
 */
#ifndef BRINE_SEAL_H
#define BRINE_SEAL_H

#include <linux/pkt_cls.h>

#include "association.h"
#include "ecn.h"
#include "former.h"
#include "limit.h"
#include "packet.h"
#include "ratchet.h"
#include "seal_outer.h"
#include "secretbox.h"
#include "stat.h"

_Static_assert((int)SECRETBOX_TEXT_MAX == (int)EVENT_DATA_MAX, "what can be sealed can be punted");

static __always_inline __u64 flow_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* Receive-side scaling wants flows told apart; an observer shall not learn
 * which ports they use: hence the secret. */
static __always_inline __u32 flow_hash(const struct inner *inner, __u32 ports,
				       __u64 secret)
{
	__u64 words[4], hash = secret;

	__builtin_memcpy(words, &inner->source, 16);
	__builtin_memcpy(words + 2, &inner->destination, 16);
	hash = flow_mix(hash, words[0]);
	hash = flow_mix(hash, words[1]);
	hash = flow_mix(hash, words[2]);
	hash = flow_mix(hash, words[3]);
	hash = flow_mix(hash, (__u64)ports << 8 | inner->protocol);
	return flow_mix(hash, secret) >> 16;
}

/* Hand a packet that found no box to the daemon, whole. If other maps have taken
 * the place of these, theirs it is: former.h. */
static __always_inline int seal_punt(struct __sk_buff *skb,
				     struct seal_area *area, enum stat reason)
{
	struct event *event = (struct event *)area->work.text;
	const struct seal_packet *packet = &area->packet;
	__u32 length = packet->length;

	bpf_tail_call(skb, &successor, 0);
	if (!length || length > EVENT_DATA_MAX) /* a keepalive is not worth holding */
		goto out;
	if (!limit_send(packet->peer, packet->now)) {
		reason = STAT_SEAL_NO_BOX_LIMITED;
		goto out;
	}
	event->kind = EVENT_PUNT_SEND;
	event->peer = packet->peer;
	event->association = 0;
	event->length = length;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, event->data, HELPER_LENGTH(length))) {
		reason = STAT_SEAL_ERROR;
		goto out;
	}
	if (bpf_ringbuf_output(&events, event, sizeof(*event) + HELPER_LENGTH(length), 0))
		reason = STAT_SEAL_NO_BOX_LIMITED;
out:
	stat_count(reason, length);
	return TC_ACT_SHOT;
}

/* Read the inner headers and the flow. Returns 0, or the reason to drop. */
static __always_inline int seal_parse(struct __sk_buff *skb,
				      struct seal_packet *packet, __u64 secret)
{
	struct inner *inner = &packet->inner;
	__u8 header[IPV6_HEADER] = {};
	__u32 ports = 0, room;

	/* A VLAN on brine0 would carry its tag to the underlay. */
	if (skb->len < ETH_HLEN + IPV4_HEADER || skb->vlan_present)
		return STAT_SEAL_NOT_IP;
	room = skb->len - ETH_HLEN;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, header, IPV4_HEADER))
		return STAT_SEAL_ERROR;
	if (room >= IPV6_HEADER && header[0] >> 4 == 6 &&
	    bpf_skb_load_bytes(skb, ETH_HLEN, header, IPV6_HEADER))
		return STAT_SEAL_ERROR;
	/* An IPv6 header cut short reads as zeros: its length will not fit. */
	if (inner_parse(header, inner) || inner->ethertype != skb->protocol)
		return STAT_SEAL_NOT_IP;
	if (inner->length > room)
		return STAT_SEAL_NOT_IP;
	if (skb->gso_size || inner->length > SECRETBOX_TEXT_MAX)
		return STAT_SEAL_TOO_BIG;
	if (inner->transport && inner->length >= inner->transport + 4u &&
	    (inner->protocol == IPPROTO_TCP || inner->protocol == IPPROTO_UDP) &&
	    bpf_skb_load_bytes(skb, ETH_HLEN + inner->transport, &ports, 4))
		return STAT_SEAL_ERROR;
	packet->length = inner->length;
	packet->flow = flow_hash(inner, ports, secret);
	return 0;
}

/* The daemon asks for an empty packet: see enum keepalive_request_field.
 * Returns 1 if this is such a request, and reads it. */
static __always_inline int seal_keepalive_request(struct __sk_buff *skb,
						  struct seal_packet *packet)
{
	static const struct address unspecified;
	struct keepalive_request request;

	if (packet->inner.ethertype != bpf_htons(ETH_P_IPV6) ||
	    packet->inner.protocol != KEEPALIVE_REQUEST_NEXT_HEADER ||
	    packet->length != IPV6_HEADER + sizeof(request) ||
	    !address_equal(&packet->inner.destination, &unspecified) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + IPV6_HEADER, &request, sizeof(request)))
		return 0;
	packet->peer = request.peer;
	packet->announce = request.flags & KEEPALIVE_ANNOUNCE;
	packet->length = 0;
	packet->traffic_class = 0;
	return 1;
}

/* What an announcement takes of its association. Returns 0 or -1. */
static __always_inline int seal_take_key(struct seal_area *area)
{
	const struct seal_packet *packet = &area->packet;
	const struct association *association = association_at(packet->association);

	if (!association)
		return -1;
	__builtin_memcpy(&area->header_tag.key,
			 association->own[packet->sender_generation & 1].public, KEY_SIZE);
	__builtin_memcpy(&area->header_key, association->send_header_key, KEY_SIZE);
	return 0;
}

/* Take what the packet needs of its box, and a number for its nonce: see
 * association.h. Returns 0 or the reason why it cannot be sealed. */
static __always_inline int seal_take(struct seal_area *area, const struct box *box)
{
	struct seal_packet *packet = &area->packet;
	__u64 lane, number, life;
	struct counters *counter;
	__u32 key;

	RACE(RACE_SEAL_FOUND, packet->association);
	life = life_read(box);
	if (life_tenant(life) != box_tenant(BOX_PUBLISHED, packet->sender_generation,
					    packet->receiver_generation))
		return STAT_SEAL_NO_BOX;
	fence(&area->fence);
	RACE(RACE_SEAL_ALIVE, packet->association);
	/* The peer ties the box to the route that the packet took. */
	if (box->peer != packet->peer)
		return STAT_SEAL_NO_BOX;
	if (packet->now >= box->not_after)
		return STAT_SEAL_EXPIRED;
	packet->index = box->index;
	__builtin_memcpy(area->work.subkey, box->subkey, KEY_SIZE);
	if (packet->announce && seal_take_key(area))
		return STAT_SEAL_NO_BOX;
	RACE(RACE_SEAL_COPIED, packet->association);

	key = packet->association * PAIRS +
	      pair_index(packet->sender_generation, packet->receiver_generation);
	counter = bpf_map_lookup_elem(&counters, &key);
	if (!counter)
		return STAT_SEAL_ERROR;
	lane = bpf_get_smp_processor_id() & (LANES - 1);
	/* The number is spent here, whatever becomes of the packet. */
	number = __sync_fetch_and_add(&counter->lane[lane].next, 1);
	RACE(RACE_SEAL_COUNTED, packet->association);
	if (life_read(box) != life)
		return STAT_SEAL_NO_BOX;
	RACE(RACE_SEAL_TAKEN, packet->association);
	if (number >> COUNTER_BITS)
		return STAT_SEAL_EXHAUSTED;
	packet->nonce = lane << 56 | number;
	return 0;
}

/* Count what was sent. */
static __always_inline void seal_account(const struct seal_packet *packet,
					 struct peer_state *state)
{
	struct traffic *traffic_of = bpf_map_lookup_elem(&traffic, &packet->peer);

	if (traffic_of && packet->length) {
		traffic_of->sent_packets++;
		traffic_of->sent_bytes += packet->length;
	}
	peer_state_touch(&state->last_sent, packet->now);
	if (packet->length)
		peer_state_touch(&state->last_data_sent, packet->now);
	stat_count(STAT_SEAL_OK, packet->length);
}

/* By which association the peer's packets go now; the box of its sending pair,
 * or NULL. What is read here may be stale: seal_take checks what counts. */
static __always_inline struct box *seal_find(struct seal_packet *packet,
					     const struct peer_state *state)
{
	const struct association *association;
	__u32 sending = *(const volatile __u32 *)&state->sending;
	union ratchet_word word;

	if (!sending)
		return NULL;
	packet->association = sending - 1;
	association = association_at(packet->association);
	if (!association ||
	    life_state(life_read(association)) < ASSOCIATION_UNCONFIRMED)
		return NULL;
	word = ratchet_read(association);
	packet->sender_generation = word.is.send_own;
	packet->receiver_generation = word.is.send_peer;
	if (!ratchet_announces(word))
		packet->announce = 0; /* a keepalive will do */
	if (packet->announce) {
		packet->sender_generation = word.is.own_current;
		packet->receiver_generation = word.is.peer_current;
	}
	return box_at(packet->association, DIRECTION_SEND,
		      pair_index(packet->sender_generation, packet->receiver_generation));
}

/* From the frame to the number of the peer that it is for. Returns 0, or the reason
 * to drop. */
static __always_inline int seal_begin(struct __sk_buff *skb,
				      struct seal_packet *packet,
				      const struct config *settings)
{
	__s64 number;
	int reason;

	packet->length = 0;
	packet->announce = 0;
	packet->now = bpf_ktime_get_boot_ns();
	reason = seal_parse(skb, packet, settings->flow_secret);
	if (reason)
		return reason;
	packet->traffic_class = packet->inner.traffic_class;
	if (!(settings->flags & CONFIG_COPY_DSCP))
		packet->traffic_class &= ECN_MASK;
	if (seal_keepalive_request(skb, packet))
		return 0;
	number = route_peer(route_lookup(&packet->inner.destination));
	if (number < 0)
		return STAT_SEAL_NO_ROUTE;
	packet->peer = number;
	return 0;
}

SEC("tc")
int seal(struct __sk_buff *skb)
{
	struct seal_packet *packet;
	struct peer_state *state;
	struct config *settings;
	struct seal_area *area;
	struct secretbox *work;
	struct peer *peer;
	struct box *box;
	__u32 zero = 0;
	int reason;

	settings = bpf_map_lookup_elem(&config, &zero);
	area = bpf_map_lookup_elem(&seal_areas, &zero);
	if (!settings || !area)
		return TC_ACT_SHOT;
	work = &area->work;
	packet = &area->packet;
	reason = seal_begin(skb, packet, settings);
	if (reason == STAT_SEAL_NO_ROUTE)
		bpf_tail_call(skb, &successor, 0); /* whose routes are newer */
	if (reason)
		goto drop;
	reason = STAT_SEAL_NO_ROUTE;
	peer = bpf_map_lookup_elem(&peers, &packet->peer);
	state = bpf_map_lookup_elem(&peer_states, &packet->peer);
	if (!peer || !state)
		goto drop;
	box = seal_find(packet, state);
	if (!box) {
		/* The daemon's own requests name the peers of these maps. */
		if (packet->length)
			bpf_tail_call(skb, &former_seal, 0);
		return seal_punt(skb, area, STAT_SEAL_NO_BOX);
	}
	reason = STAT_SEAL_NO_ENDPOINT;
	if (!peer->endpoint.port)
		goto drop;
	reason = seal_take(area, box);
	if (reason) { /* which may have copied keys */
		secretbox_forget(work);
		overwrite(&area->header_key, sizeof(area->header_key));
	}
	if (reason == STAT_SEAL_NO_BOX || reason == STAT_SEAL_EXPIRED ||
	    reason == STAT_SEAL_EXHAUSTED)
		return seal_punt(skb, area, reason);
	if (reason)
		goto drop;

	reason = STAT_SEAL_ERROR;
	if (packet->length && bpf_skb_load_bytes(skb, ETH_HLEN, work->text,
						 HELPER_LENGTH(packet->length)))
		goto drop;
	work->nonce = packet->nonce;
	if (secretbox_seal(work, packet->length))
		goto drop;
	secretbox_forget(work);

	if (address_is4(&peer->endpoint.address))
		reason = seal_send4(skb, area, settings, peer);
	else
		reason = seal_send6(skb, area, settings, peer);
	if (reason != STAT_SEAL_OK)
		goto drop;
	seal_account(packet, state);
	return bpf_redirect_neigh(settings->underlay_ifindex, NULL, 0, 0);
drop:
	stat_count(reason, packet->length);
	return TC_ACT_SHOT;
}

/* What the former `seal` could not seal either: former.h. */
SEC("tc")
int punt(struct __sk_buff *skb)
{
	struct config *settings;
	struct seal_area *area;
	__u32 zero = 0;
	int reason;

	settings = bpf_map_lookup_elem(&config, &zero);
	area = bpf_map_lookup_elem(&seal_areas, &zero);
	if (!settings || !area)
		return TC_ACT_SHOT;
	reason = seal_begin(skb, &area->packet, settings);
	if (!reason)
		return seal_punt(skb, area, STAT_SEAL_NO_BOX);
	stat_count(reason, area->packet.length);
	return TC_ACT_SHOT;
}

#endif
