/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The maps: the one source of their layout. Python reads every size, offset
 * and enumerator below from BTF and keeps no second list.
 *
 * Who writes what:
 *   config, peers, routes, endpoints        user space (brine/reconcile.py)
 *   associations, boxes, counters, windows  `control`, and `open` where a packet
 *                                           brings a new key: ratchet.h, pair.h
 *   peer_states.sending                     `control`, and `open` at confirmation
 *   indices, retired                        `control`
 *   traffic, stats, limits, budgets         the data path
 * Those of admission_maps.h and former.h come on top.
 * Sizes marked "set at load" are given by the loader before the load.
 */
#ifndef BRINE_MAPS_H
#define BRINE_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "control.h"
#include "wire.h"

/* Raised by any change below that maps made before cannot go on with. The pin
 * directory carries it, and tests/unit/layouts has each version in words. */
enum layout {
	LAYOUT_VERSION = 5,
};

/* Ages of association keys, after which a box made of them closes. */
enum pair_time {
	PAIR_SEND_SECONDS = 300,
	PAIR_RECEIVE_SECONDS = 360,
};

enum map_size {
	LANES = 16,
	COUNTER_BITS = 40, /* receivers refuse, senders stop: see replay.h */
	WINDOW_BITS = 2048,
	WINDOW_WORD_BITS = 32, /* of each 64-bit word; the rest is its epoch */
	WINDOW_WORDS = WINDOW_BITS / WINDOW_WORD_BITS,
	/* Counters that far below the highest are too old. A word less than the
	 * ring: the highest counter's own word also serves the oldest ones. */
	WINDOW_SIZE = WINDOW_BITS - WINDOW_WORD_BITS,
	RETIRED_INDICES = 4096,
	BOXES_PER_ASSOCIATION = 8, /* direction, sgen & 1, rgen & 1 */
	PAIRS = 4, /* sgen & 1, rgen & 1 */
	EVENT_DATA_MAX = 9216,
	EVENTS_BYTES = 1 << 20,
	MAC1_KEYS = 4, /* two identities, two mesh secrets: while either is rotated */
	/* More than come to be in the two seconds in which a bucket fills: admission.h */
	SOURCES = 8192,
};

/* What the daemon writes to brine0 to have an empty packet sealed for a peer:
 * an IPv6 packet of this next header (RFC 3692: experiments) for the
 * destination `::`, which no socket can send, its payload a keepalive_request. */
enum keepalive_request_field {
	KEEPALIVE_REQUEST_NEXT_HEADER = 253,
};

enum keepalive_flag {
	/* As DATA_KEYED, on the pair of the newest keys, while ours is unproved;
	 * afterwards a keepalive like any other. */
	KEEPALIVE_ANNOUNCE = 1,
};

struct keepalive_request {
	__u32 peer;
	__u32 flags; /* enum keepalive_flag */
};

/* An underlay or overlay address: IPv6, or IPv4 mapped (::ffff:a.b.c.d). */
struct address {
	__u8 bytes[16];
};

struct endpoint {
	struct address address;
	__be16 port;
	__u16 reserved[3];
};

enum config_flag {
	CONFIG_COPY_DSCP = 1,
	/* No scalar multiplication on reception: an event has the daemon see to it. */
	CONFIG_PUNT_DERIVATION = 2,
	/* All packets leave from our own port: roaming.h. */
	CONFIG_ROAMING = 4,
};

/* A slot of the array is a peer's number, `peer` elsewhere. Unused: zeros. */
struct peer {
	__u8 identity[KEY_SIZE];
	struct endpoint endpoint; /* port zero: not known yet */
	__u32 flags; /* enum peer_flag */
	__u32 reserved;
};

enum peer_flag {
	PEER_ROAMING = 1,
};

/* Mapped into the daemon, which reads it every tick. Times: boot clock, ns,
 * at least 0.1 s apart so that packets rarely dirty the line. */
struct peer_state {
	__u32 sending; /* association + 1, or 0: published by atomic exchange */
	__u32 reserved;
	__u64 last_sent; /* any DATA sealed to the peer */
	__u64 last_received; /* any packet that authenticated */
	__u64 last_data_sent; /* the same two, keepalives left out */
	__u64 last_data_received;
};

/* Per CPU. Bytes are inner bytes. */
struct traffic {
	__u64 sent_packets, sent_bytes;
	__u64 received_packets, received_bytes;
};

enum association_state {
	ASSOCIATION_FREE = 0, /* holds no secret */
	ASSOCIATION_CLAIMED = 1, /* one run of `control` is filling or wiping it */
	ASSOCIATION_ERASING = 2, /* out of use, but not wiped yet: ERASE it again */
	ASSOCIATION_PENDING = 3, /* ours to answer: sends nothing until a packet opens */
	ASSOCIATION_UNCONFIRMED = 4, /* we initiated: sends, nothing has come back yet */
	ASSOCIATION_CONFIRMED = 5,
};

enum ratchet_flag {
	RATCHET_UNPROVED = 1, /* own_current: nothing has come back under it */
	RATCHET_OWN_PREVIOUS = 2, /* own_current - 1: its private key and boxes are held */
	RATCHET_PEER_PREVIOUS = 4, /* peer_current - 1: its key may still make boxes */
	RATCHET_ADOPTING = 8, /* one CPU is writing the key of peer_current + 1 */
	RATCHET_OWN_UNUSED = 16, /* own_current: no DATA has come to it */
};

/* All generations of an association in one word, which moves by compare-and-swap
 * only: ratchet.h. *own* is ours and *peer* theirs; on the wire sgen and rgen are
 * the sender's and the receiver's, so in what we receive peer = sgen, own = rgen. */
struct ratchet {
	__u8 own_current; /* made last */
	__u8 peer_current; /* adopted last */
	__u8 send_own; /* the pair that data is sealed on */
	__u8 send_peer;
	__u8 flags; /* enum ratchet_flag */
	__u8 reserved;
	__u16 instance; /* raised by every ERASE of this number */
} __attribute__((aligned(8)));

struct association_key {
	__u8 private[KEY_SIZE];
	__u8 public[KEY_SIZE];
};

struct association {
	__u32 state; /* enum association_state, one word with `serial`: association.h */
	__u32 serial; /* raised by every claim, for as long as the map lives */
	struct ratchet ratchet;
	/* Boot clock, ns: when the peer's first DATA under its generation came. The
	 * last byte is that generation, so that a late note of the one before it
	 * does not pass for one of peer_current. */
	__u64 peer_moved;
	__u32 peer;
	__u32 local_index; /* in packets we receive */
	__u32 remote_index; /* in packets we send */
	__u32 initiated; /* 1: this host was the initiator */
	__u64 created; /* boot clock, ns; once FREE: when it was erased */
	__u64 send_not_after; /* boot clock, ns; no box of it lives longer */
	__u64 receive_not_after; /* same */
	/* All boot clock, ns. */
	__u64 own_since[2]; /* by generation & 1: made */
	__u64 peer_since[2]; /* by generation & 1: adopted */
	__u64 own_used_at; /* DATA first came to own_current, unless RATCHET_OWN_UNUSED */
	__u64 own_rest_until; /* no new generation before */
	__u64 derivations; /* spent until then: budget.h */
	__u8 secret[KEY_SIZE]; /* A */
	__u8 send_header_key[KEY_SIZE];
	__u8 receive_header_key[KEY_SIZE];
	struct association_key own[2]; /* by generation & 1 */
	__u8 peer_public[2][KEY_SIZE]; /* by generation & 1 */
};

enum box_state {
	BOX_EMPTY = 0,
	BOX_CLAIMED = 1,
	BOX_PUBLISHED = 2,
	/* Never made, or made and expired: the pair is not tried again. The slot is
	 * free once its pair can never be used again. */
	BOX_FAILED = 3,
};

enum direction {
	DIRECTION_SEND = 0,
	DIRECTION_RECEIVE = 1,
};

/* Key: association * BOXES_PER_ASSOCIATION + direction * PAIRS + (sgen & 1) * 2 + (rgen & 1).
 * K and N of the protocol are spent on the sub-key: the packet path needs no more.
 * What a packet takes from its box never changes while the box is PUBLISHED. */
struct box {
	/* These five are one word, the box's life: association.h. */
	__u8 state; /* enum box_state */
	__u8 sender_generation;
	__u8 receiver_generation;
	__u8 reserved;
	__u32 serial; /* raised by every claim, for as long as the map lives */
	__u32 peer;
	__u32 index; /* the receiver's, in every packet of this box */
	__u64 not_after; /* boot clock, ns; checked by the data path, never extended */
	__u8 subkey[KEY_SIZE]; /* HSalsa20(K, N) */
	__u8 peer_public[KEY_SIZE]; /* receiving: the peer's key that it was made of */
};

/* Sending: key association * PAIRS + pair. One cache line a lane. */
struct counters {
	struct {
		__u64 next;
		__u64 reserved[7];
	} lane[LANES];
};

/* Receiving: key association * PAIRS + pair. replay.h explains the words. */
struct windows {
	struct {
		__u64 highest;
		__u64 words[WINDOW_WORDS];
	} lane[LANES];
};

struct route_key {
	__u32 prefix_length; /* of the mapped form: IPv4 /24 is 120 */
	struct address address;
};

/* Values of `routes` that are no peer's number. */
enum route_value {
	/* Added to a peer's number where the prefix is outside the mesh's own
	 * networks (a gateway's LAN, a default route): such addresses may also be
	 * met in the clear, so `open` does not drop them. */
	ROUTE_OUTSIDE = 0x40000000,
	ROUTE_SELF = 0xfffffffe, /* this host's own overlay address */
	ROUTE_NONE = 0xffffffff, /* in the mesh's networks, but nobody's */
};

/* Token bucket. */
struct bucket {
	__u64 updated; /* boot clock, ns */
	__u64 tokens;
};

/* What of a peer's packets may reach the daemon. Two buckets: whoever forges the
 * peer's address on the underlay must not keep our own packets from it. */
struct limit {
	struct bucket send; /* seal: packets without a box */
	struct bucket receive; /* open: packets of unknown index */
};

/* What of the whole host is bounded: budget.h. */
enum budget {
	BUDGET_DERIVATIONS,
	/* INITIATIONs, by where they come from: a peer's address or not */
	BUDGET_LISTED,
	BUDGET_STRANGERS,
	BUDGET_SHOWN_LISTED, /* with mac2 */
	BUDGET_SHOWN_STRANGERS,
	BUDGET_UNKNOWN, /* packets of unknown index, of all peers' addresses */
	BUDGETS,
};

enum event_kind {
	EVENT_PUNT_SEND = 1, /* data: an inner packet that found no box */
	EVENT_CONFIRMED = 2, /* first packet opened under `association` */
	EVENT_RATCHET = 3, /* its ratchet moved, or the peer announced a key */
	EVENT_DERIVE = 4, /* data: event_derive. CONFIG_PUNT_DERIVATION: make this pair */
	EVENT_MOVED = 5, /* data: endpoint. Where a roaming peer's packet came from */
};

struct event {
	__u32 kind; /* enum event_kind */
	__u32 peer;
	__u32 association;
	__u32 length; /* of data */
	__u8 data[0];
};

struct event_derive {
	__u8 own_generation;
	__u8 peer_generation;
	__u8 keyed; /* 1: the packet brought `key`, and header_tag vouches for it */
	__u8 reserved;
	__u16 instance; /* of the ratchet that the packet met: see struct ratchet */
	__u16 reserved2;
	__u8 key[KEY_SIZE];
};

/* What became of every packet that a program looked at. `*_ok` and `pass_*`
 * aside, each is a drop. The names, lower-case and without STAT_, are what
 * `brine status` prints. */
enum stat {
	STAT_SEAL_OK,
	STAT_SEAL_NOT_IP, /* neither IPv4 nor IPv6, or truncated */
	STAT_SEAL_NO_ROUTE, /* no peer allows the destination */
	STAT_SEAL_NO_BOX, /* punted: the daemon holds the packet */
	STAT_SEAL_NO_BOX_LIMITED, /* not punted: over the rate, or the ring is full */
	STAT_SEAL_EXPIRED, /* association or box too old to send; punted likewise */
	STAT_SEAL_EXHAUSTED, /* counter at its limit; punted likewise */
	STAT_SEAL_NO_ENDPOINT, /* peer's endpoint, or our source for its family, unknown */
	STAT_SEAL_TOO_BIG, /* longer than the buffer, or a GSO packet */
	STAT_SEAL_ERROR, /* a helper failed */
	STAT_OPEN_OK,
	STAT_OPEN_KEEPALIVE,
	STAT_OPEN_PASS_OTHER, /* not ours: to the stack */
	STAT_OPEN_PASS_EXCHANGE, /* INITIATION, RESPONSE, COOKIE: to the daemon */
	STAT_OPEN_PASS_UNKNOWN, /* unknown index, listed source: to the daemon */
	STAT_OPEN_MAC1, /* INITIATION or RESPONSE for none of our identities */
	STAT_OPEN_UNAWAITED, /* RESPONSE or COOKIE to nothing that we asked */
	STAT_OPEN_LIMITED_SOURCE, /* INITIATIONs of that address: over the rate */
	STAT_OPEN_LIMITED_HOST, /* INITIATIONs of all such addresses: over the rate */
	STAT_OPEN_LIMITED_ANSWER, /* too many answers to one INITIATION of ours */
	STAT_OPEN_PLAINTEXT, /* an address of the mesh, in the clear, on the underlay */
	STAT_OPEN_MALFORMED, /* length, reserved byte, lane, or counter out of range */
	STAT_OPEN_UNKNOWN_INDEX,
	STAT_OPEN_NO_BOX, /* index known, pair not */
	STAT_OPEN_HEADER_TAG, /* an announced key that header_tag does not vouch for */
	STAT_OPEN_BUDGET, /* pair not made: too many derivations lately */
	STAT_OPEN_PUNT_PAIR, /* pair left to the daemon, which was told */
	STAT_OPEN_RACE, /* pair not made: another CPU is at it, or the ratchet moved */
	STAT_OPEN_BAD_KEY, /* the peer's new key makes no box: low order, or our own */
	STAT_OPEN_EXPIRED,
	STAT_OPEN_REPLAY,
	STAT_OPEN_FORGED, /* Poly1305 did not verify */
	STAT_OPEN_SOURCE, /* inner source not allowed for this peer */
	STAT_OPEN_INNER, /* what was sealed is no IP packet of that length */
	STAT_OPEN_ECN, /* RFC 6040: congestion marked on a not-ECN-capable packet */
	STAT_OPEN_ERROR, /* a helper failed */
	STATS,
};

/* Brings the enumerators that no member has into BTF, for Python. */
struct vocabulary {
	enum layout layout;
	enum map_size map_size;
	enum keepalive_request_field keepalive_request_field;
	enum keepalive_flag keepalive_flag;
	struct keepalive_request keepalive_request;
	enum ratchet_flag ratchet_flag;
	enum pair_time pair_time;
	struct event_derive event_derive;
	enum config_flag config_flag;
	enum peer_flag peer_flag;
	enum association_state association_state;
	enum box_state box_state;
	enum direction direction;
	enum route_value route_value;
	enum event_kind event_kind;
	enum budget budget;
	enum stat stat;
	enum message_type message_type;
	enum wire_size wire_size;
	enum control_operation control_operation;
	enum control_result control_result;
	enum control_time control_time;
	struct event event;
	struct message_initiation message_initiation;
	struct message_response message_response;
	struct message_cookie message_cookie;
	struct message_data message_data;
	struct message_data_keyed message_data_keyed;
};

struct config {
	__u32 underlay_ifindex;
	__u32 inside_ifindex; /* brine0p, the end that the programs own */
	struct address source4; /* underlay source for IPv4 endpoints, or zeros */
	struct address source6;
	__be16 port; /* ours; peers carry their own in `peers` */
	__u8 brine0_mac[6];
	__u64 flow_secret; /* per boot: keys the outer source port */
	__u32 flags; /* enum config_flag */
	__u32 reserved;
	struct vocabulary vocabulary[0];
};

struct stat_value {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64); /* set at load */
	__type(key, __u32);
	__type(value, struct peer);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 64); /* set at load, as `peers` */
	__type(key, __u32);
	__type(value, struct peer_state);
} peer_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 64); /* set at load, as `peers` */
	__type(key, __u32);
	__type(value, struct traffic);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64); /* set at load, as `peers` */
	__type(key, __u32);
	__type(value, struct limit);
} limits SEC(".maps");

/* What the whole host has spent: budget.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUDGETS);
	__type(key, __u32); /* enum budget */
	__type(value, __u64); /* boot clock, ns */
} budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536); /* grows as used */
	__type(key, struct route_key);
	__type(value, __u32); /* peer, or enum route_value */
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64); /* set at load, as `peers` */
	__type(key, struct endpoint);
	__type(value, __u32); /* peer */
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 144); /* set at load */
	__type(key, __u32);
	__type(value, struct association);
} associations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 144); /* set at load, as `associations` */
	__type(key, __u32); /* local index */
	__type(value, __u32); /* association */
} indices SEC(".maps");

/* Local indices that were living: not to be used again for a while. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RETIRED_INDICES);
	__type(key, __u32); /* local index */
	__type(value, __u64); /* boot clock, ns: free again from then on */
} retired SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1152); /* set at load: BOXES_PER_ASSOCIATION each */
	__type(key, __u32);
	__type(value, struct box);
} boxes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 576); /* set at load: PAIRS each */
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 576); /* set at load: PAIRS each */
	__type(key, __u32);
	__type(value, struct windows);
} windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STATS);
	__type(key, __u32); /* enum stat */
	__type(value, struct stat_value);
} stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} events SEC(".maps");

#endif
