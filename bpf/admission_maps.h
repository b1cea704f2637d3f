/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What decides which messages of the exchange reach the daemon: admission.h.
 *
 * Who writes what:
 *   mac1_keys, cookie_secrets	the daemon
 *   awaited			the daemon adds and removes, `open` charges
 *   sources			`open`
 */
#ifndef BRINE_ADMISSION_MAPS_H
#define BRINE_ADMISSION_MAPS_H

#include "maps.h"

/* INITIATIONs of one address or IPv6 /64: budget.h. Boot clock, ns. */
struct source {
	__u64 spent;
	__u64 shown; /* with mac2 */
};

/* BLAKE2b-256("brine/1 mac1" ‖ psk ‖ own identity), for each pair that we answer to. */
struct mac1_key {
	__u8 key[KEY_SIZE];
	__u32 used; /* 0: no key */
	__u32 reserved;
};

/* R, of which the daemon makes cookies. */
struct cookie_secret {
	__u8 secret[KEY_SIZE];
	__u64 not_after; /* boot clock, ns */
};

/* An INITIATION of ours that has no answer yet, and what came as one: budget.h. */
struct awaited {
	__u64 responses;
	__u64 cookies;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SOURCES);
	__type(key, struct address); /* IPv6: of a /64, the rest zeros */
	__type(value, struct source);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAC1_KEYS);
	__type(key, __u32);
	__type(value, struct mac1_key);
} mac1_keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cookie_secret);
} cookie_secrets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64); /* set at load, as `peers`: one each */
	__type(key, __u32); /* sender index of the INITIATION */
	__type(value, struct awaited);
} awaited SEC(".maps");

#endif
