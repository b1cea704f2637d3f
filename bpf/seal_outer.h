/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Transmit, last part: the outer headers around a sealed packet. seal.h calls it.
 */
#ifndef BRINE_SEAL_OUTER_H
#define BRINE_SEAL_OUTER_H

#include "packet.h"
#include "secretbox.h"

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
	__u64 nonce; /* its last eight bytes: lane and counter */
	__u32 index; /* the receiver's */
	__u32 flow; /* keyed hash of the inner flow */
	__u32 length; /* of the text: 0 for a keepalive */
	__u8 sender_generation;
	__u8 receiver_generation;
	__u8 traffic_class; /* outer */
};

/* Too much for the 512 bytes of a BPF stack. */
struct seal_area {
	struct seal_packet packet;
	union {
		struct outer4 outer4;
		struct outer6 outer6;
	};
	__u64 fence;
	struct secretbox work;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seal_area);
} seal_areas SEC(".maps");

static __always_inline void seal_message(struct message_data *data,
					 const struct seal_packet *packet,
					 const __u32 tag[4])
{
	data->type = MESSAGE_DATA;
	data->sender_generation = packet->sender_generation;
	data->receiver_generation = packet->receiver_generation;
	data->lane = packet->nonce >> 56;
	data->receiver = packet->index;
	data->counter = packet->nonce & ((1ULL << 56) - 1);
	__builtin_memcpy(data->tag, tag, TAG_SIZE);
}

/* Make the packet one of the outer family and as long as it will be, between
 * Ethernet and what follows, and write the ciphertext to its end.
 *
 * The family must reach skb->protocol, by which bpf_redirect_neigh chooses its
 * look-up. bpf_skb_adjust_room could set it, but refuses packets that the stack
 * has marked as a tunnel's (VXLAN over brine0); bpf_skb_change_proto takes all.
 * One step of room both makes place for the outer headers and takes away what
 * Ethernet padded: cutting off the tail is refused where the stack set a
 * transport header behind the cut. What the two do to the content is no matter,
 * all of it is written. */
static __always_inline int seal_reshape(struct __sk_buff *skb,
					struct secretbox *work, __be16 family,
					__u32 overhead, __u32 length)
{
	__s32 room;

	if (skb->protocol != family && bpf_skb_change_proto(skb, family, 0))
		return -1;
	room = ETH_HLEN + overhead + length - skb->len;
	if (bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, 0))
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
				      const struct peer *peer)
{
	const struct seal_packet *packet = &area->packet;
	struct outer4 *outer = &area->outer4;

	__builtin_memset(outer, 0, sizeof(*outer));
	outer->ip.version = 4;
	outer->ip.ihl = 5;
	outer->ip.tos = packet->traffic_class;
	outer->ip.tot_len = bpf_htons(sizeof(*outer) + packet->length);
	outer->ip.frag_off = bpf_htons(IPV4_DONT_FRAGMENT);
	outer->ip.ttl = OUTER_HOP_LIMIT;
	outer->ip.protocol = IPPROTO_UDP;
	__builtin_memcpy(&outer->ip.saddr, config->source4.bytes + 12, 4);
	__builtin_memcpy(&outer->ip.daddr, peer->endpoint.address.bytes + 12, 4);
	outer->ip.check = ipv4_checksum(&outer->ip);
	seal_udp(&outer->udp, packet, peer);
	seal_message(&outer->data, packet, area->work.tag);
	if (!outer->ip.saddr)
		return STAT_SEAL_NO_ENDPOINT;
	if (seal_reshape(skb, &area->work, bpf_htons(ETH_P_IP), sizeof(*outer),
			 packet->length) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, outer, sizeof(*outer), 0))
		return STAT_SEAL_ERROR;
	return STAT_SEAL_OK;
}

static __always_inline int seal_send6(struct __sk_buff *skb, struct seal_area *area,
				      const struct config *config,
				      const struct peer *peer)
{
	static const struct address unspecified;
	const struct seal_packet *packet = &area->packet;
	struct outer6 *outer = &area->outer6;

	__builtin_memset(outer, 0, sizeof(*outer));
	outer->ip.version = 6;
	outer->ip.priority = packet->traffic_class >> 4;
	outer->ip.flow_lbl[0] = packet->traffic_class << 4 | (packet->flow >> 16 & 15);
	outer->ip.flow_lbl[1] = packet->flow >> 8;
	outer->ip.flow_lbl[2] = packet->flow;
	outer->ip.payload_len = bpf_htons(UDP_HEADER + sizeof(struct message_data) +
					 packet->length);
	outer->ip.nexthdr = IPPROTO_UDP;
	outer->ip.hop_limit = OUTER_HOP_LIMIT;
	__builtin_memcpy(&outer->ip.saddr, &config->source6, 16);
	__builtin_memcpy(&outer->ip.daddr, &peer->endpoint.address, 16);
	seal_udp(&outer->udp, packet, peer);
	seal_message(&outer->data, packet, area->work.tag);
	if (address_equal(&config->source6, &unspecified))
		return STAT_SEAL_NO_ENDPOINT;
	if (seal_reshape(skb, &area->work, bpf_htons(ETH_P_IPV6), sizeof(*outer),
			 packet->length) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, outer, sizeof(*outer), 0))
		return STAT_SEAL_ERROR;
	return STAT_SEAL_OK;
}

#endif
