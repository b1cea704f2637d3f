/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * brine/1 on the wire: the one source of message layouts.
 *
 * Python reads sizes and offsets of these structs from the object's BTF.
 * docs/protocol.md says what the fields mean. Integers are little-endian.
 */
#ifndef BRINE_WIRE_H
#define BRINE_WIRE_H

#include <linux/types.h>

enum message_type {
	MESSAGE_INITIATION = 1,
	MESSAGE_RESPONSE = 2,
	MESSAGE_COOKIE = 3,
	MESSAGE_DATA = 4,
	MESSAGE_DATA_KEYED = 5,
};

enum wire_size {
	KEY_SIZE = 32,
	TAG_SIZE = 16,
	HEADER_TAG_SIZE = 8,
	MAC_SIZE = 16,
	COOKIE_NONCE_SIZE = 24,
	COOKIE_SIZE = 16,
	TIMESTAMP_SIZE = 12,
	MLKEM768_KEY_SIZE = 1184,
	MLKEM768_CIPHERTEXT_SIZE = 1088,
};

/* Noise: e, e1 (sealed ML-KEM key), s (sealed identity), sealed payload. */
struct message_initiation {
	__u8 type; /* MESSAGE_INITIATION */
	__u8 reserved[3];
	__u32 sender; /* index chosen by the initiator */
	__u8 ephemeral[KEY_SIZE];
	__u8 kem_key[MLKEM768_KEY_SIZE + TAG_SIZE];
	__u8 identity[KEY_SIZE + TAG_SIZE];
	__u8 payload[TIMESTAMP_SIZE + 4 + KEY_SIZE + TAG_SIZE];
	__u8 mac1[MAC_SIZE];
	__u8 mac2[MAC_SIZE];
} __attribute__((packed));

struct message_response {
	__u8 type; /* MESSAGE_RESPONSE */
	__u8 reserved[3];
	__u32 sender; /* index chosen by the responder */
	__u32 receiver; /* the initiator's index */
	__u8 ephemeral[KEY_SIZE];
	__u8 kem_ciphertext[MLKEM768_CIPHERTEXT_SIZE + TAG_SIZE];
	__u8 payload[4 + KEY_SIZE + TAG_SIZE];
	__u8 mac1[MAC_SIZE];
	__u8 mac2[MAC_SIZE];
} __attribute__((packed));

struct message_cookie {
	__u8 type; /* MESSAGE_COOKIE */
	__u8 reserved[3];
	__u32 receiver;
	__u8 nonce[COOKIE_NONCE_SIZE];
	__u8 sealed[COOKIE_SIZE + TAG_SIZE];
} __attribute__((packed));

/* Followed by the ciphertext: tag ‖ ciphertext is a NaCl secretbox. */
struct message_data {
	__u8 type; /* MESSAGE_DATA */
	__u8 sender_generation;
	__u8 receiver_generation;
	__u8 lane; /* sending CPU mod LANES */
	__u32 receiver; /* index chosen by the receiver */
	__u64 counter; /* per box and lane */
	__u8 tag[TAG_SIZE];
} __attribute__((packed));

struct message_data_keyed {
	__u8 type; /* MESSAGE_DATA_KEYED */
	__u8 sender_generation;
	__u8 receiver_generation;
	__u8 lane;
	__u32 receiver;
	__u64 counter;
	__u8 key[KEY_SIZE]; /* the sender's association key of sender_generation */
	__u8 header_tag[HEADER_TAG_SIZE];
	__u8 tag[TAG_SIZE];
} __attribute__((packed));

_Static_assert(sizeof(struct message_initiation) == 1384, "INITIATION");
_Static_assert(sizeof(struct message_response) == 1232, "RESPONSE");
_Static_assert(sizeof(struct message_cookie) == 64, "COOKIE");
_Static_assert(sizeof(struct message_data) == 32, "DATA");
_Static_assert(sizeof(struct message_data_keyed) == 72, "DATA_KEYED");

#endif
