/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The daemon's one way into the association maps: a struct control_request
 * given to the `control` program through BPF_PROG_RUN, with the data path
 * running meanwhile. Callers take a lock in user space (brine/maps.py), so that
 * nobody meets CONTROL_BUSY; safety does not rest on it. The program overwrites
 * the request's secrets before it returns, whatever it returns.
 */
#ifndef BRINE_CONTROL_H
#define BRINE_CONTROL_H

#include <linux/types.h>

#include "wire.h"

enum control_operation {
	/* Fill a FREE association and its generation-0 boxes, enter its index.
	 * It becomes UNCONFIRMED (initiated) or PENDING; nothing is sent on it yet. */
	CONTROL_INSTALL = 1,
	/* Make it the one its peer's packets are sealed under. */
	CONTROL_PUBLISH = 2,
	/* Stop sending on it, leave its index, overwrite every secret, FREE it. */
	CONTROL_ERASE = 3,
	/* Take own_private and own_public as the next generation, `own_generation`.
	 * Makes no box: DERIVE follows. */
	CONTROL_ROTATE = 4,
	/* Make the pair of the newest keys of both sides, unless it is there. */
	CONTROL_DERIVE = 5,
	/* The same for the pair given, which `open` has left to the daemon by
	 * EVENT_DERIVE: here, in a process, it keeps no packet waiting. */
	CONTROL_DERIVE_PAIR = 6,
	/* Overwrite what is no longer used: our previous key once ours is proved and
	 * used, boxes of the peer's previous one once it has moved, expired boxes. */
	CONTROL_RETIRE = 7,
};

/* The program's return value. */
enum control_result {
	CONTROL_DONE = 0,
	CONTROL_BAD_REQUEST = 1, /* out of range, or keys that cannot be */
	CONTROL_NOT_FREE = 2, /* INSTALL: the association is in use */
	CONTROL_INDEX_TAKEN = 3, /* INSTALL: local_index lives, or died just now */
	CONTROL_NO_ASSOCIATION = 4, /* PUBLISH: it is free or pending */
	CONTROL_WRONG_PEER = 5, /* INSTALL: `identity` is not the peer's in `peers` */
	CONTROL_RESTING = 6, /* INSTALL: erased less than CONTROL_REST_SECONDS ago */
	CONTROL_BUSY = 7, /* another run of the program is at work */
	/* The data path is at work on what this would touch, or the ratchet moved
	 * meanwhile. What was begun goes on with the next call. */
	CONTROL_AGAIN = 8,
	CONTROL_NOT_DUE = 9, /* ROTATE, RETIRE: not yet, or nothing to do */
	CONTROL_ILLEGAL = 10, /* DERIVE_PAIR: no pair of the present keys */
	CONTROL_FAILED = 11, /* DERIVE, DERIVE_PAIR: its keys make no box, or it expired */
};

enum control_time {
	/* An erased association, and a box that lost publication, rest: no packet
	 * that began with the old one can still be under way. */
	CONTROL_REST_SECONDS = 10,
	/* An index is not used again for so long: packets still under way must not
	 * meet a new association, nor an exchange be installed a second time. */
	CONTROL_RETIRE_SECONDS = 600,
};

struct control_box {
	__u8 key[KEY_SIZE]; /* K */
	__u8 nonce[16]; /* N */
};

struct control_request {
	__u32 operation; /* enum control_operation */
	__u32 association;
	__u8 own_generation; /* ROTATE, DERIVE_PAIR */
	__u8 peer_generation; /* DERIVE_PAIR, as the next two: see event_derive */
	__u8 keyed; /* 1: peer_public was announced */
	__u8 reserved;
	__u16 instance;
	__u16 reserved2;
	/* the rest: INSTALL; but for the keys of ROTATE and DERIVE_PAIR */
	__u32 peer;
	__u32 initiated;
	__u32 local_index;
	__u32 remote_index;
	__u64 send_not_after; /* boot clock, ns: the association's and its boxes' */
	__u64 receive_not_after;
	__u8 identity[KEY_SIZE]; /* the peer's, checked against `peers` */
	__u8 secret[KEY_SIZE];
	__u8 send_header_key[KEY_SIZE];
	__u8 receive_header_key[KEY_SIZE];
	__u8 own_private[KEY_SIZE]; /* generation 0; ROTATE: own_generation */
	__u8 own_public[KEY_SIZE];
	__u8 peer_public[KEY_SIZE]; /* generation 0; DERIVE_PAIR: peer_generation */
	struct control_box send;
	struct control_box receive;
};

#endif
