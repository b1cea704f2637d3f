/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Proof that the derivation runs where it will be called: in an XDP program, on
 * reception, with a work area of its hook and CPU, beneath a frame as deep as the
 * receive path's. The packet is a header and a key as DATA_KEYED has them; the
 * answer is written over it.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "derive.h"

enum derive_in_xdp_size {
	FRAME = 200, /* bytes of stack */
};

struct held_keys {
	struct key_words own_private, own_public, secret, header_key;
};

struct derive_in_xdp_area {
	struct derive derive;
	struct header_tag header_tag;
};

/* In place of the packet: header and key; then header tag, K, N and sub-key. */
struct derive_in_xdp_packet {
	__u64 header[DERIVE_HEADER_WORDS];
	struct key_words key;
	__u64 tag;
	__u64 box[DERIVE_BOX_WORDS];
	__u32 subkey[DERIVE_SUBKEY_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct held_keys);
} held SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct derive_in_xdp_area);
} areas SEC(".maps");

SEC("xdp.frags")
int derive_in_xdp(struct xdp_md *context)
{
	struct derive_in_xdp_packet packet;
	volatile __u8 frame[FRAME - sizeof(packet)];
	struct derive_in_xdp_area *area;
	struct held_keys *keys;
	__u32 zero = 0;
	int i;

	frame[0] = 0; /* hold the frame */
	keys = bpf_map_lookup_elem(&held, &zero);
	area = bpf_map_lookup_elem(&areas, &zero);
	if (!keys || !area ||
	    bpf_xdp_load_bytes(context, 0, &packet, sizeof(packet)))
		return XDP_ABORTED;

	area->header_tag.header[0] = packet.header[0];
	area->header_tag.header[1] = packet.header[1];
	area->header_tag.key = packet.key;
	header_tag(&area->header_tag, &keys->header_key);
	packet.tag = area->header_tag.tag;

	if (derive_dh(&area->derive, &keys->own_private, &keys->own_public,
		      &area->header_tag.key))
		return XDP_DROP;
	derive_box(&area->derive, &keys->secret, &area->header_tag.key,
		   &keys->own_public, packet.header[0] >> 8 & 0xffff);
	for (i = 0; i < DERIVE_BOX_WORDS; i++)
		packet.box[i] = area->derive.box[i];
	for (i = 0; i < DERIVE_SUBKEY_WORDS; i++)
		packet.subkey[i] = area->derive.subkey[i];
	derive_wipe(&area->derive);
	if (bpf_xdp_store_bytes(context, 0, &packet, sizeof(packet)))
		return XDP_ABORTED;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
