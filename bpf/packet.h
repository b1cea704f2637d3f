/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Inner and outer packets: what both programs need to know of their headers.
 */
#ifndef BRINE_PACKET_H
#define BRINE_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "route.h"
#include "secretbox.h"

enum packet_size {
	IPV4_HEADER = 20,
	IPV6_HEADER = 40,
	UDP_HEADER = 8,
	OUTER_HOP_LIMIT = 64,
	OUTER_PORT_BASE = 0xc000, /* source ports: the dynamic range of RFC 6335 */
};

#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_FRAGMENT_MASK 0x3fff /* more fragments, or an offset */
#define IPV6_FLOW_INFO_TCLASS_SHIFT 20

/* A constant-bounded length for helpers. The mask is what the verifier
 * understands; the barrier keeps the compiler, which knows that it changes
 * nothing, from dropping it. Lengths are 1..SECRETBOX_TEXT_MAX here. */
#define HELPER_LENGTH(length) ({						\
	__u64 bounded = (length);						\
	asm volatile("" : "+r"(bounded));					\
	((bounded - 1) & (SECRETBOX_BUFFER - 1)) + 1;				\
})

/* What the programs read of an inner packet. */
struct inner {
	struct address source;
	struct address destination;
	__u32 length; /* of the whole packet, by its own header */
	__u8 traffic_class; /* IPv4: type of service */
	__u8 protocol;
	__u16 transport; /* offset of the transport header, 0 if unknown */
	__be16 ethertype;
};

/* `header` holds 40 bytes, of which an IPv4 packet needs 20. Returns 0, or -1
 * if these are no sound IPv4 or IPv6 headers. */
static __always_inline int inner_parse(const void *header, struct inner *inner)
{
	const struct iphdr *ip4 = header;
	const struct ipv6hdr *ip6 = header;
	const __u8 *bytes = header;

	if (bytes[0] >> 4 == 4) {
		__u32 size = (bytes[0] & 15) * 4;

		inner->length = bpf_ntohs(ip4->tot_len);
		if (size < IPV4_HEADER || inner->length < size)
			return -1;
		inner->traffic_class = ip4->tos;
		inner->protocol = ip4->protocol;
		inner->transport =
			ip4->frag_off & bpf_htons(IPV4_FRAGMENT_MASK) ? 0 : size;
		inner->ethertype = bpf_htons(ETH_P_IP);
		address_map4(&inner->source, ip4->saddr);
		address_map4(&inner->destination, ip4->daddr);
		return 0;
	}
	if (bytes[0] >> 4 == 6) {
		inner->length = bpf_ntohs(ip6->payload_len) + IPV6_HEADER;
		inner->traffic_class = bytes[0] << 4 | bytes[1] >> 4;
		inner->protocol = ip6->nexthdr;
		inner->transport = IPV6_HEADER;
		inner->ethertype = bpf_htons(ETH_P_IPV6);
		__builtin_memcpy(&inner->source, &ip6->saddr, 16);
		__builtin_memcpy(&inner->destination, &ip6->daddr, 16);
		/* IPv4 in IPv6 clothes would be looked up as IPv4. */
		return -(address_is4(&inner->source) | address_is4(&inner->destination));
	}
	return -1;
}

/* The Internet checksum of an IPv4 header without options, its field zero. */
static __always_inline __u16 ipv4_checksum(const void *header)
{
	const __u16 *words = header;
	__u32 sum = 0;
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < IPV4_HEADER / 2; i++)
		sum += words[i]; /* < 10 * 2^16 */
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#endif
