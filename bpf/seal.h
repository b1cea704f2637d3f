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
#include "limit.h"
#include "packet.h"
#include "secretbox.h"
#include "stat.h"

/* The outer headers as they leave. */
struct outer4 {
	struct iphdr ip;
	struct udphdr udp;
	struct message_data data;
};

struct outer6 {
	struct ipv6hdr ip;
	struct udphdr udp;
	struct message_data data;
};

_Static_assert(sizeof(struct outer4) == 60, "overhead over IPv4");
_Static_assert(sizeof(struct outer6) == 80, "overhead over IPv6");

/* What the steps of sealing one packet hand on. */
struct seal_packet {
	struct inner inner;
	__u32 peer;
	__u32 association;
	__u64 now;
	__u32 flow; /* keyed hash of the inner flow */
	__u32 length; /* of the text: 0 for a keepalive */
};

/* Too much for the 512 bytes of a BPF stack. */
struct seal_area {
	struct seal_packet packet;
	union {
		struct outer4 outer4;
		struct outer6 outer6;
	};
	struct secretbox work;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seal_area);
} seal_areas SEC(".maps");

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

/* Hand a packet that found no box to the daemon, whole. */
static __always_inline int seal_punt(struct __sk_buff *skb,
				     struct seal_area *area, enum stat reason)
{
	struct event *event = (struct event *)area->work.text;
	const struct seal_packet *packet = &area->packet;
	__u32 length = packet->length;

	if (!length || length > EVENT_DATA_MAX) /* a keepalive is not worth holding */
		goto out;
	if (!limit_take(packet->peer, packet->now)) {
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

	if (skb->len < ETH_HLEN + IPV4_HEADER)
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
 * Returns 1 and the peer if this is such a request. */
static __always_inline int seal_keepalive_request(struct __sk_buff *skb,
						  const struct seal_packet *packet,
						  __u32 *peer)
{
	static const struct address unspecified;

	if (packet->inner.ethertype != bpf_htons(ETH_P_IPV6) ||
	    packet->inner.protocol != KEEPALIVE_REQUEST_NEXT_HEADER ||
	    !address_equal(&packet->inner.destination, &unspecified))
		return 0;
	return !bpf_skb_load_bytes(skb, ETH_HLEN + IPV6_HEADER, peer, 4);
}

static __always_inline void seal_message(struct message_data *data,
					 const struct association *association,
					 __u64 nonce, const __u32 tag[4])
{
	data->type = MESSAGE_DATA;
	data->sender_generation = association->own_generation;
	data->receiver_generation = association->peer_generation;
	data->lane = nonce >> 56;
	data->receiver = association->remote_index;
	data->counter = nonce & ((1ULL << 56) - 1);
	__builtin_memcpy(data->tag, tag, TAG_SIZE);
}

/* Make room for the outer headers between Ethernet and the inner packet, write
 * the ciphertext over the latter. A change of family must reach skb->protocol,
 * by which bpf_redirect_neigh chooses its look-up: hence the flag. */
static __always_inline int seal_reshape(struct __sk_buff *skb,
					struct secretbox *work, __u32 overhead,
					__u32 length, __u64 family_flag)
{
	__u32 frame = ETH_HLEN + overhead + length;

	if (bpf_skb_adjust_room(skb, overhead, BPF_ADJ_ROOM_MAC, family_flag))
		return -1;
	if (skb->len != frame && bpf_skb_change_tail(skb, frame, 0))
		return -1;
	if (!length)
		return 0;
	return bpf_skb_store_bytes(skb, ETH_HLEN + overhead, work->text,
				   HELPER_LENGTH(length), BPF_F_INVALIDATE_HASH);
}

static __always_inline void seal_udp(struct udphdr *udp,
				     const struct seal_packet *packet,
				     const struct peer *peer)
{
	udp->source = bpf_htons(OUTER_PORT_BASE | (packet->flow & 0x3fff));
	udp->dest = peer->endpoint.port;
	udp->len = bpf_htons(UDP_HEADER + sizeof(struct message_data) + packet->length);
	/* Zero, also over IPv6 (RFC 6935, 6936): the receiver is `open`, before
	 * any stack that would refuse it, and Poly1305 guards the rest. */
	udp->check = 0;
}

static __always_inline int seal_send4(struct __sk_buff *skb, struct seal_area *area,
				      const struct config *config,
				      const struct peer *peer, __u8 traffic_class,
				      const struct association *association,
				      __u64 nonce)
{
	const struct seal_packet *packet = &area->packet;
	struct outer4 *outer = &area->outer4;
	__u64 flag = skb->protocol == bpf_htons(ETH_P_IP) ?
			     0 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;

	__builtin_memset(outer, 0, sizeof(*outer));
	outer->ip.version = 4;
	outer->ip.ihl = 5;
	outer->ip.tos = traffic_class;
	outer->ip.tot_len = bpf_htons(sizeof(*outer) + packet->length);
	outer->ip.frag_off = bpf_htons(IPV4_DONT_FRAGMENT);
	outer->ip.ttl = OUTER_HOP_LIMIT;
	outer->ip.protocol = IPPROTO_UDP;
	__builtin_memcpy(&outer->ip.saddr, config->source4.bytes + 12, 4);
	__builtin_memcpy(&outer->ip.daddr, peer->endpoint.address.bytes + 12, 4);
	outer->ip.check = ipv4_checksum(&outer->ip);
	seal_udp(&outer->udp, packet, peer);
	seal_message(&outer->data, association, nonce, area->work.tag);
	if (!outer->ip.saddr)
		return STAT_SEAL_NO_ENDPOINT;
	if (seal_reshape(skb, &area->work, sizeof(*outer), packet->length, flag) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, outer, sizeof(*outer), 0))
		return STAT_SEAL_ERROR;
	return STAT_SEAL_OK;
}

static __always_inline int seal_send6(struct __sk_buff *skb, struct seal_area *area,
				      const struct config *config,
				      const struct peer *peer, __u8 traffic_class,
				      const struct association *association,
				      __u64 nonce)
{
	static const struct address unspecified;
	const struct seal_packet *packet = &area->packet;
	struct outer6 *outer = &area->outer6;
	__u64 flag = skb->protocol == bpf_htons(ETH_P_IPV6) ?
			     0 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;

	__builtin_memset(outer, 0, sizeof(*outer));
	outer->ip.version = 6;
	outer->ip.priority = traffic_class >> 4;
	outer->ip.flow_lbl[0] = traffic_class << 4 | (packet->flow >> 16 & 15);
	outer->ip.flow_lbl[1] = packet->flow >> 8;
	outer->ip.flow_lbl[2] = packet->flow;
	outer->ip.payload_len = bpf_htons(UDP_HEADER + sizeof(struct message_data) +
					 packet->length);
	outer->ip.nexthdr = IPPROTO_UDP;
	outer->ip.hop_limit = OUTER_HOP_LIMIT;
	__builtin_memcpy(&outer->ip.saddr, &config->source6, 16);
	__builtin_memcpy(&outer->ip.daddr, &peer->endpoint.address, 16);
	seal_udp(&outer->udp, packet, peer);
	seal_message(&outer->data, association, nonce, area->work.tag);
	if (address_equal(&config->source6, &unspecified))
		return STAT_SEAL_NO_ENDPOINT;
	if (seal_reshape(skb, &area->work, sizeof(*outer), packet->length, flag) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, outer, sizeof(*outer), 0))
		return STAT_SEAL_ERROR;
	return STAT_SEAL_OK;
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

SEC("tc")
int seal(struct __sk_buff *skb)
{
	struct seal_packet *packet;
	struct association *association;
	struct peer_state *state;
	struct counters *counter;
	struct config *settings;
	struct seal_area *area;
	struct secretbox *work;
	struct peer *peer;
	struct box *box;
	__u32 zero = 0, sending, key;
	__u8 traffic_class;
	__u64 lane, number;
	__s64 route;
	int reason;

	settings = bpf_map_lookup_elem(&config, &zero);
	area = bpf_map_lookup_elem(&seal_areas, &zero);
	if (!settings || !area)
		return TC_ACT_SHOT;
	work = &area->work;
	packet = &area->packet;
	packet->length = 0;
	packet->now = bpf_ktime_get_boot_ns();
	reason = seal_parse(skb, packet, settings->flow_secret);
	if (reason)
		goto drop;
	if (seal_keepalive_request(skb, packet, &packet->peer)) {
		packet->length = 0;
	} else {
		route = route_lookup(&packet->inner.destination);
		reason = STAT_SEAL_NO_ROUTE;
		if (route < 0 || route >= ROUTE_SELF)
			goto drop;
		packet->peer = route;
	}
	reason = STAT_SEAL_NO_ROUTE;
	peer = bpf_map_lookup_elem(&peers, &packet->peer);
	state = bpf_map_lookup_elem(&peer_states, &packet->peer);
	if (!peer || !state)
		goto drop;

	sending = *(volatile __u32 *)&state->sending;
	if (!sending)
		return seal_punt(skb, area, STAT_SEAL_NO_BOX);
	packet->association = sending - 1;
	association = association_at(packet->association);
	if (!association || association->state < ASSOCIATION_UNCONFIRMED ||
	    association->peer != packet->peer)
		return seal_punt(skb, area, STAT_SEAL_NO_BOX);
	if (packet->now >= association->send_not_after)
		return seal_punt(skb, area, STAT_SEAL_EXPIRED);
	box = box_find(packet->association, DIRECTION_SEND,
		       association->own_generation, association->peer_generation);
	if (!box)
		return seal_punt(skb, area, STAT_SEAL_NO_BOX);
	if (packet->now >= box->not_after)
		return seal_punt(skb, area, STAT_SEAL_EXPIRED);
	reason = STAT_SEAL_NO_ENDPOINT;
	if (!peer->endpoint.port)
		goto drop;

	key = packet->association * PAIRS +
	      pair_index(box->sender_generation, box->receiver_generation);
	counter = bpf_map_lookup_elem(&counters, &key);
	reason = STAT_SEAL_ERROR;
	if (!counter)
		goto drop;
	lane = bpf_get_smp_processor_id() & (LANES - 1);
	/* The nonce is spent here, whatever becomes of the packet-> */
	number = __sync_fetch_and_add(&counter->lane[lane].next, 1);
	reason = STAT_SEAL_EXHAUSTED;
	if (number >> COUNTER_BITS)
		goto drop;

	reason = STAT_SEAL_ERROR;
	if (packet->length && bpf_skb_load_bytes(skb, ETH_HLEN, work->text,
						HELPER_LENGTH(packet->length)))
		goto drop;
	__builtin_memcpy(work->subkey, box->subkey, KEY_SIZE);
	work->nonce = lane << 56 | number;
	if (secretbox_seal(work, packet->length))
		goto drop;

	traffic_class = packet->inner.traffic_class & ECN_MASK;
	if (settings->flags & CONFIG_COPY_DSCP)
		traffic_class = packet->inner.traffic_class;
	if (!packet->length)
		traffic_class = 0;
	if (address_is4(&peer->endpoint.address))
		reason = seal_send4(skb, area, settings, peer, traffic_class,
				    association, work->nonce);
	else
		reason = seal_send6(skb, area, settings, peer, traffic_class,
				    association, work->nonce);
	if (reason != STAT_SEAL_OK)
		goto drop;
	seal_account(packet, state);
	return bpf_redirect_neigh(settings->underlay_ifindex, NULL, 0, 0);
drop:
	stat_count(reason, packet->length);
	return TC_ACT_SHOT;
}

#endif
