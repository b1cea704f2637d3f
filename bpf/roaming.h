/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a peer marked PEER_ROAMING is now. docs/protocol.md: Endpoints.
 *
 * Its packets leave from its own port, as do those to it (seal_outer.h): an address
 * translator then sees one flow. `open` tells the daemon of a packet that opened and
 * came from elsewhere; the daemon, which alone writes endpoints, follows.
 */
#ifndef BRINE_ROAMING_H
#define BRINE_ROAMING_H

#include "limit.h"
#include "maps.h"
#include "open_parse.h"

struct roaming_event {
	struct event event;
	struct endpoint source;
};

/* Tell of `packet`, which opened under `data`, if it is the newest of its lane: one
 * that was on its way when the peer moved must not lead back. One that an attacker
 * held back and sends from elsewhere first does lead there, as in WireGuard, until
 * the peer's next packet. 1: told. */
__noinline int roaming_tell(const struct open_packet *packet,
			    const struct message_data *data)
{
	struct roaming_event moved = {};
	struct windows *window;
	__u32 key;

	if (!packet || !data)
		return 0;
	key = packet->association * PAIRS +
	      pair_index(data->sender_generation, data->receiver_generation);
	window = bpf_map_lookup_elem(&windows, &key);
	if (!window || data->lane >= LANES ||
	    *(volatile __u64 *)&window->lane[data->lane].highest != data->counter)
		return 0;
	if (!limit_receive(packet->peer, packet->now))
		return 0;
	moved.event.kind = EVENT_MOVED;
	moved.event.peer = packet->peer;
	moved.event.association = packet->association;
	moved.event.length = sizeof(moved.source);
	moved.source.address = packet->source;
	moved.source.port = packet->source_port;
	return !bpf_ringbuf_output(&events, &moved, sizeof(moved), 0);
}

static __always_inline void roaming_follow(const struct open_packet *packet,
					   const struct message_data *data,
					   const struct peer_state *state)
{
	const struct peer *peer = bpf_map_lookup_elem(&peers, &packet->peer);

	if (!peer || !(peer->flags & PEER_ROAMING))
		return;
	if (peer->endpoint.port == packet->source_port &&
	    address_equal(&peer->endpoint.address, &packet->source))
		return;
	/* An older association's packets say where the peer was. */
	if (*(const volatile __u32 *)&state->sending != packet->association + 1)
		return;
	roaming_tell(packet, data);
}

#endif
