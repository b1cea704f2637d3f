/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Transmit, last part: the outer headers around a sealed packet. seal.h calls it.
 */
#ifndef BRINE_SEAL_OUTER_H
#define BRINE_SEAL_OUTER_H

#include "derive.h"
#include "packet.h"
#include "secretbox.h"

/* The outer headers as they leave. */
struct outer4 {
	struct iphdr ip;
	struct udphdr udp;
	union {
		struct message_data data;
		struct message_data_keyed keyed;
	};
};

struct outer6 {
	struct ipv6hdr ip;
	struct udphdr udp;
	union {
		struct message_data data;
		struct message_data_keyed keyed;
	};
};

enum seal_overhead {
	SEAL_OVERHEAD4 = IPV4_HEADER + UDP_HEADER + sizeof(struct message_data),
	SEAL_OVERHEAD6 = IPV6_HEADER + UDP_HEADER + sizeof(struct message_data),
	SEAL_KEYED = sizeof(struct message_data_keyed) - sizeof(struct message_data),
};

_Static_assert((int)SEAL_OVERHEAD4 == 60, "overhead over IPv4");
_Static_assert((int)SEAL_OVERHEAD6 == 80, "overhead over IPv6");
_Static_assert(sizeof(struct outer4) == SEAL_OVERHEAD4 + (int)SEAL_KEYED, "an announcement");
_Static_assert(sizeof(struct outer6) == SEAL_OVERHEAD6 + (int)SEAL_KEYED, "an announcement");

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
	__u8 announce; /* 1: asked for; once the pair is chosen: as DATA_KEYED */
};

/* Too much for the 512 bytes of a BPF stack. */
struct seal_area {
	struct seal_packet packet;
	union {
		struct outer4 outer4;
		struct outer6 outer6;
	};
	__u64 fence;
	/* Of announcements: what goes into header_tag, and its key. */
	struct key_words header_key;
	struct header_tag header_tag;
	struct secretbox work;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seal_area);
} seal_areas SEC(".maps");

/* The message in front of the ciphertext. `data` has room for DATA_KEYED. */
static __always_inline void seal_message(struct message_data *data,
					 struct seal_area *area)
{
	const struct seal_packet *packet = &area->packet;
	struct message_data_keyed *keyed = (struct message_data_keyed *)data;

	data->type = packet->announce ? MESSAGE_DATA_KEYED : MESSAGE_DATA;
	data->sender_generation = packet->sender_generation;
	data->receiver_generation = packet->receiver_generation;
	data->lane = packet->nonce >> 56;
	data->receiver = packet->index;
	data->counter = packet->nonce & ((1ULL << 56) - 1);
	if (!packet->announce) {
		__builtin_memcpy(data->tag, area->work.tag, TAG_SIZE);
		return;
	}
	__builtin_memcpy(area->header_tag.header, data, sizeof(area->header_tag.header));
	header_tag(&area->header_tag, &area->header_key);
	overwrite(&area->header_key, sizeof(area->header_key));
	__builtin_memcpy(keyed->key, &area->header_tag.key, KEY_SIZE);
	__builtin_memcpy(keyed->header_tag, &area->header_tag.tag, HEADER_TAG_SIZE);
	__builtin_memcpy(keyed->tag, area->work.tag, TAG_SIZE);
}

/* Bytes of the message before its ciphertext. */
static __always_inline __u32 seal_header(const struct seal_packet *packet)
{
	return packet->announce ? sizeof(struct message_data_keyed) :
				  sizeof(struct message_data);
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

/* Receive-side scaling wants a port for each flow. Where an address translator may
 * stand between, all is one flow with the exchanges: roaming.h. */
static __always_inline __be16 seal_port(const struct seal_packet *packet,
					const struct config *config,
					const struct peer *peer)
{
	if (config->flags & CONFIG_ROAMING || peer->flags & PEER_ROAMING)
		return config->port;
	return bpf_htons(OUTER_PORT_BASE | (packet->flow & 0x3fff));
}

static __always_inline void seal_udp(struct udphdr *udp,
				     const struct seal_packet *packet,
				     const struct config *config,
				     const struct peer *peer)
{
	udp->source = seal_port(packet, config, peer);
	udp->dest = peer->endpoint.port;
	udp->len = bpf_htons(UDP_HEADER + seal_header(packet) + packet->length);
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
	__u32 overhead = packet->announce ? sizeof(*outer) : (int)SEAL_OVERHEAD4;

	__builtin_memset(&outer->ip, 0, sizeof(outer->ip));
	outer->ip.version = 4;
	outer->ip.ihl = 5;
	outer->ip.tos = packet->traffic_class;
	outer->ip.tot_len = bpf_htons(overhead + packet->length);
	outer->ip.frag_off = bpf_htons(IPV4_DONT_FRAGMENT);
	outer->ip.ttl = OUTER_HOP_LIMIT;
	outer->ip.protocol = IPPROTO_UDP;
	__builtin_memcpy(&outer->ip.saddr, config->source4.bytes + 12, 4);
	__builtin_memcpy(&outer->ip.daddr, peer->endpoint.address.bytes + 12, 4);
	outer->ip.check = ipv4_checksum(&outer->ip);
	seal_udp(&outer->udp, packet, config, peer);
	seal_message(&outer->data, area);
	if (!outer->ip.saddr)
		return STAT_SEAL_NO_ENDPOINT;
	if (seal_reshape(skb, &area->work, bpf_htons(ETH_P_IP), overhead,
			 packet->length) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, outer, overhead, 0))
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
	__u32 overhead = packet->announce ? sizeof(*outer) : (int)SEAL_OVERHEAD6;

	__builtin_memset(&outer->ip, 0, sizeof(outer->ip));
	outer->ip.version = 6;
	outer->ip.priority = packet->traffic_class >> 4;
	outer->ip.flow_lbl[0] = packet->traffic_class << 4 | (packet->flow >> 16 & 15);
	outer->ip.flow_lbl[1] = packet->flow >> 8;
	outer->ip.flow_lbl[2] = packet->flow;
	outer->ip.payload_len = bpf_htons(overhead - IPV6_HEADER + packet->length);
	outer->ip.nexthdr = IPPROTO_UDP;
	outer->ip.hop_limit = OUTER_HOP_LIMIT;
	__builtin_memcpy(&outer->ip.saddr, &config->source6, 16);
	__builtin_memcpy(&outer->ip.daddr, &peer->endpoint.address, 16);
	seal_udp(&outer->udp, packet, config, peer);
	seal_message(&outer->data, area);
	if (address_equal(&config->source6, &unspecified))
		return STAT_SEAL_NO_ENDPOINT;
	if (seal_reshape(skb, &area->work, bpf_htons(ETH_P_IPV6), overhead,
			 packet->length) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, outer, overhead, 0))
		return STAT_SEAL_ERROR;
	return STAT_SEAL_OK;
}

#endif
