/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A host with two peers and an association with each, made by `control` as the
 * daemon makes them.
 */
#ifndef BRINE_FUZZ_MESH_H
#define BRINE_FUZZ_MESH_H

#include <sodium.h>

#include "frames.h"
#include "input.h"

/* Instead of BPF assembly. */
#define CONTROL_WORD(request, field, i) \
	(((const __u64 *)((const __u8 *)(request) + offsetof(struct control_request, field)))[i])
/* The C library has an `open` too. */
#define open brine_open
#include "seal.h"
#include "open.h"
#include "control_program.h"
#undef open

enum mesh {
	MESH_PORT = 4747,
	MESH_UNDERLAY = 5, /* interfaces */
	MESH_INSIDE = 6,
	MESH_PEERS = 2, /* numbers 1 and 2, met over IPv4 and over IPv6 */
};

/* 10.77.0.1 and fd62:7269:6e65::1 are ours, ...2 and ...3 the peers'; beside them
 * peer 2 has 198.51.100.0/24, outside the mesh. */
static const __u8 mesh_inner6[15] = { 0xfd, 0x62, 0x72, 0x69, 0x6e, 0x65 };
static const __u8 mesh_outer6[15] = { 0x20, 0x01, 0x0d, 0xb8 };
static const __u8 mesh_mac[6] = { 2, 0, 0, 0, 0, 9 };

static struct mesh_peer {
	struct control_box send, receive; /* of generation 0 on both sides */
	__u32 local_index, remote_index;
	__u8 secret[KEY_SIZE], send_header_key[KEY_SIZE], receive_header_key[KEY_SIZE];
	__u8 own_public[KEY_SIZE];
} mesh_peers[MESH_PEERS + 1];

static struct address mesh_address4(__u32 host_order)
{
	struct address made;

	address_map4(&made, bpf_htonl(host_order));
	return made;
}

static struct address mesh_address6(const __u8 *prefix, __u8 last)
{
	struct address made;

	memcpy(made.bytes, prefix, 15);
	made.bytes[15] = last;
	return made;
}

static void mesh_route(struct address address, __u32 length, __u32 value)
{
	struct route_key key = { .prefix_length = length, .address = address };

	bpf_map_update_elem(&routes, &key, &value, BPF_ANY);
}

static void mesh_associate(__u32 number)
{
	struct mesh_peer *keys = &mesh_peers[number];
	struct control_request request = {
		.operation = CONTROL_INSTALL, .association = number, .peer = number,
		.initiated = 1, .local_index = 0xa0000000 + number,
		.remote_index = 0xb0000000 + number,
		.send_not_after = ~0ULL >> 1, .receive_not_after = ~0ULL >> 1,
	};
	__u8 *secret = request.secret;

	memset(request.identity, number, KEY_SIZE);
	/* Any keys, as long as they differ. */
	for (; secret < (__u8 *)&request.send; secret++)
		*secret = 17 * number + (secret - request.secret) / 3;
	/* But for public keys, which must be such. */
	crypto_scalarmult_base(request.own_public, request.own_private);
	crypto_scalarmult_base(request.peer_public, request.secret);
	memcpy(keys->secret, request.secret, KEY_SIZE);
	memcpy(keys->send_header_key, request.send_header_key, KEY_SIZE);
	memcpy(keys->receive_header_key, request.receive_header_key, KEY_SIZE);
	memcpy(keys->own_public, request.own_public, KEY_SIZE);
	memset(&keys->send, 0x40 + number, sizeof(keys->send));
	memset(&keys->receive, 0x60 + number, sizeof(keys->receive));
	keys->local_index = request.local_index;
	keys->remote_index = request.remote_index;
	request.send = keys->send;
	request.receive = keys->receive;
	MUST(control(&request) == CONTROL_DONE);
	request = (struct control_request){ .operation = CONTROL_PUBLISH,
					    .association = number };
	MUST(control(&request) == CONTROL_DONE);
}

static void mesh_make(void)
{
	struct config *settings;
	struct peer *entry;
	__u32 number = 0, value;

	kernel_reset();
	settings = bpf_map_lookup_elem(&config, &number);
	settings->underlay_ifindex = MESH_UNDERLAY;
	settings->inside_ifindex = MESH_INSIDE;
	settings->source4 = mesh_address4(0xc0000201);
	settings->source6 = mesh_address6(mesh_outer6, 1);
	settings->port = bpf_htons(MESH_PORT);
	settings->flow_secret = 0x0123456789abcdefULL;
	memcpy(settings->brine0_mac, mesh_mac, sizeof(mesh_mac));
	mesh_route(mesh_address4(0x0a4d0000), 112, ROUTE_NONE);
	mesh_route(mesh_address6(mesh_inner6, 0), 48, ROUTE_NONE);
	mesh_route(mesh_address4(0x0a4d0001), 128, ROUTE_SELF);
	mesh_route(mesh_address6(mesh_inner6, 1), 128, ROUTE_SELF);
	mesh_route(mesh_address4(0xc6336400), 120, 2 | ROUTE_OUTSIDE);
	for (number = 1; number <= MESH_PEERS; number++) {
		struct endpoint source = {};

		entry = bpf_map_lookup_elem(&peers, &number);
		memset(entry->identity, number, KEY_SIZE);
		entry->endpoint.address = number == 1 ? mesh_address4(0xc0000202) :
							mesh_address6(mesh_outer6, 3);
		entry->endpoint.port = bpf_htons(MESH_PORT);
		source.address = entry->endpoint.address;
		value = number;
		bpf_map_update_elem(&endpoints, &source, &value, BPF_ANY);
		mesh_route(mesh_address4(0x0a4d0001 + number), 128, number);
		mesh_route(mesh_address6(mesh_inner6, 1 + number), 128, number);
		mesh_associate(number);
	}
}

/* Packets by reason. Exactly one reason counts one more for every packet. */
static __u64 mesh_stats[STATS];

static int mesh_reason(void)
{
	int reason, found = -1;
	__u32 key;

	for (reason = 0; reason < STATS; reason++) {
		struct stat_value *value;

		key = reason;
		value = bpf_map_lookup_elem(&stats, &key);
		if (value->packets == mesh_stats[reason])
			continue;
		MUST(value->packets == mesh_stats[reason] + 1);
		MUST(found < 0);
		found = reason;
		mesh_stats[reason]++;
	}
	MUST(found >= 0);
	return found;
}

/* protocol.md's formulas, by libsodium. */

static void mesh_header_tag(__u8 tag[8], const __u8 key[32], const __u8 *message)
{
	MUST(!crypto_generichash_blake2b(tag, 8, message, 16 + KEY_SIZE, key, KEY_SIZE));
}

/* Of the pair (generation of the peer, 0), for what the peer sends. Returns -1 if its
 * key makes no secret. */
static int mesh_derive(struct control_box *box, const struct mesh_peer *peer, __u8 generation,
		       const __u8 private[32], const __u8 public[32])
{
	__u8 text[11 + 2 + 3 * 32] = "brine/1 box";

	text[11] = generation;
	text[12] = 0;
	if (crypto_box_beforenm(text + 13, peer->own_public, private))
		return -1;
	memcpy(text + 45, public, 32);
	memcpy(text + 77, peer->own_public, 32);
	return crypto_generichash_blake2b((__u8 *)box, sizeof(*box), text, sizeof(text),
					  peer->secret, 32);
}

static void mesh_nonce(__u8 nonce[24], const struct control_box *box, __u64 last)
{
	memcpy(nonce, box->nonce, 16);
	memcpy(nonce + 16, &last, 8);
}

#endif
