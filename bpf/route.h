/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Addresses and the longest-prefix table that maps them to peers: the
 * destination's when sealing, the inner source's when opening.
 */
#ifndef BRINE_ROUTE_H
#define BRINE_ROUTE_H

#include "maps.h"

static __always_inline void address_map4(struct address *address, __be32 ipv4)
{
	__builtin_memset(address->bytes, 0, 10);
	address->bytes[10] = 0xff;
	address->bytes[11] = 0xff;
	__builtin_memcpy(address->bytes + 12, &ipv4, 4);
}

static __always_inline int address_equal(const struct address *a,
					 const struct address *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]));
}

static __always_inline int address_is4(const struct address *address)
{
	const __u32 *x = (const __u32 *)address;

	return !(x[0] | x[1] | (x[2] ^ __builtin_bswap32(0x0000ffff)));
}

/* What the table says, or -1 if it says nothing. */
static __always_inline __s64 route_lookup(const struct address *address)
{
	struct route_key key = { .prefix_length = 128, .address = *address };
	__u32 *value = bpf_map_lookup_elem(&routes, &key);

	return value ? (__s64)*value : -1;
}

/* The number of the peer that a table entry names, or -1. */
static __always_inline __s64 route_peer(__s64 value)
{
	if (value < 0 || value >= ROUTE_SELF)
		return -1;
	return value & ~(__s64)ROUTE_OUTSIDE;
}

/* Whether a table entry is about an address of the mesh itself. */
static __always_inline int route_inside(__s64 value)
{
	return value >= ROUTE_SELF || (value >= 0 && !(value & ROUTE_OUTSIDE));
}

#endif
