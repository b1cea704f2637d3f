/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Receive, first part: what a frame of the underlay is, and what becomes of it if
 * it is no DATA of ours. open.h does the rest.
 */
#ifndef BRINE_OPEN_PARSE_H
#define BRINE_OPEN_PARSE_H

#include "budget.h"
#include "limit.h"
#include "packet.h"
#include "ratchet.h"
#include "stat.h"

struct vlan_header {
	__be16 tag;
	__be16 ethertype;
};

/* What the steps of opening one packet hand on. */
struct open_packet {
	struct address source; /* outer */
	struct address destination;
	struct inner inner;
	__u64 now;
	__u32 udp; /* offset of the UDP header in the frame */
	__u32 frame; /* what belongs to the packet; Ethernet may pad behind it */
	__u32 received; /* the frame with such padding */
	__u32 length; /* of the text */
	__u32 association;
	__u32 peer;
	__u64 association_life; /* read before the box */
	union ratchet_word ratchet; /* likewise */
	__u64 box_life;
	__be16 source_port;
	__u8 traffic_class; /* outer */
};

/* What a frame is, by its outer headers. */
enum open_kind {
	OPEN_OURS, /* UDP to our address and port, whole, all lengths agree */
	OPEN_MALFORMED, /* the same, but lengths that disagree */
	OPEN_OTHER, /* IP: source and destination are known */
	OPEN_NOT_IP,
};

/* Outer headers. Fragments, IPv4 options and IPv6 extension headers are the
 * stack's business: the daemon repeats every check on what comes through it. */
static __always_inline enum open_kind open_parse(struct xdp_md *ctx,
				      const struct config *settings,
				      struct open_packet *packet)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct vlan_header *vlan;
	struct ethhdr *eth = data;
	struct udphdr *udp;
	__u32 offset = ETH_HLEN, total;
	__be16 ethertype;

	packet->received = bpf_xdp_get_buff_len(ctx);
	if ((void *)(eth + 1) > end)
		return OPEN_NOT_IP;
	ethertype = eth->h_proto;
	if (ethertype == bpf_htons(ETH_P_8021Q)) {
		vlan = (void *)(eth + 1);
		if ((void *)(vlan + 1) > end)
			return OPEN_NOT_IP;
		ethertype = vlan->ethertype;
		offset += sizeof(*vlan);
	}
	if (ethertype == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + offset;

		if ((void *)(ip + 1) > end)
			return OPEN_NOT_IP;
		address_map4(&packet->source, ip->saddr);
		address_map4(&packet->destination, ip->daddr);
		packet->traffic_class = ip->tos;
		if (ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
		    ip->frag_off & bpf_htons(IPV4_FRAGMENT_MASK) ||
		    !address_equal(&packet->destination, &settings->source4))
			return OPEN_OTHER;
		total = bpf_ntohs(ip->tot_len);
		if (total < IPV4_HEADER)
			return OPEN_OTHER;
		packet->udp = offset + IPV4_HEADER;
		packet->frame = offset + total;
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + offset;

		if ((void *)(ip + 1) > end)
			return OPEN_NOT_IP;
		__builtin_memcpy(&packet->source, &ip->saddr, 16);
		__builtin_memcpy(&packet->destination, &ip->daddr, 16);
		packet->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
		if (ip->version != 6 || ip->nexthdr != IPPROTO_UDP ||
		    !address_equal(&packet->destination, &settings->source6))
			return OPEN_OTHER;
		packet->udp = offset + IPV6_HEADER;
		packet->frame = packet->udp + bpf_ntohs(ip->payload_len);
	} else {
		return OPEN_NOT_IP;
	}
	offset = packet->udp;
	if (offset > ETH_HLEN + sizeof(*vlan) + IPV6_HEADER)
		return OPEN_OTHER;
	udp = data + offset;
	if ((void *)(udp + 1) > end || udp->dest != settings->port)
		return OPEN_OTHER;
	/* The UDP length must be what IP carries, and all of it here. */
	if (packet->udp + bpf_ntohs(udp->len) != packet->frame ||
	    packet->frame > packet->received)
		return OPEN_MALFORMED;
	packet->source_port = udp->source;
	return OPEN_OURS;
}

/* A packet in the clear that claims an address of the mesh is a lie: such
 * packets come out of brine0 only. */
static __always_inline int open_plaintext(const struct open_packet *packet)
{
	return route_inside(route_lookup(&packet->source)) ||
	       route_inside(route_lookup(&packet->destination));
}

/* Data of an unknown index. From a listed endpoint it may mean that we
 * restarted: the daemon may start an exchange. Others get silence. */
static __always_inline int open_unknown(const struct open_packet *packet)
{
	struct endpoint source = {
		.address = packet->source,
		.port = packet->source_port,
	};
	__u32 *peer;

	/* Data leaves from a port per flow, so only the address is listed. */
	source.port = 0;
	peer = bpf_map_lookup_elem(&endpoints, &source);
	if (peer && limit_receive(*peer, packet->now) && budget_unknown(packet->now)) {
		stat_count(STAT_OPEN_PASS_UNKNOWN, packet->length);
		return XDP_PASS;
	}
	stat_count(STAT_OPEN_UNKNOWN_INDEX, packet->length);
	return XDP_DROP;
}

#endif
