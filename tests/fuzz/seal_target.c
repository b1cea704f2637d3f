/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * `seal` on what the stack, or a socket of root's, may write to brine0. Input: steps of
 * cpu, EtherType, length and bytes.
 *
 * What must hold: a packet dies, or leaves for its destination's peer as a message that
 * libsodium opens to exactly that packet, under a nonce that was never used before.
 */
#include "mesh.h"

enum { STEPS = 256 };

static __u8 packet[FRAME_MAX], opened[FRAME_MAX];
static struct {
	__u64 nonce;
	__u32 peer;
} used[STEPS];
static __u32 used_count;

/* The peer that the packet is for, by its destination alone; 0 if none. */
static __u32 destination(const __u8 *text, __u32 length)
{
	static const __u8 own4[3] = { 10, 77, 0 }, lan[3] = { 198, 51, 100 };

	if (length >= 20 && text[0] >> 4 == 4) {
		if (!memcmp(text + 16, lan, 3))
			return 2;
		if (!memcmp(text + 16, own4, 3) && (text[19] == 2 || text[19] == 3))
			return text[19] - 1;
	}
	if (length >= 40 && text[0] >> 4 == 6 && !memcmp(text + 24, mesh_inner6, 15) &&
	    (text[39] == 2 || text[39] == 3))
		return text[39] - 1;
	return 0;
}

static void check_sent(const __u8 *text, __u32 length, __be16 protocol)
{
	const __u8 *ip = frame_start + 14, *message;
	__u32 peer = ip[0] >> 4 == 4 ? 1 : 2, header = peer == 1 ? 28 : 48, size, inner, i, head;
	__u8 nonce[24], tag[8];
	__u64 last;

	message = ip + header;
	size = frame_length - 14 - header;
	/* The neighbour's look-up writes the EtherType. */
	MUST(protocol == bpf_htons(peer == 1 ? ETH_P_IP : ETH_P_IPV6));
	MUST(size >= sizeof(struct message_data));
	head = sizeof(struct message_data);
	if (message[0] == MESSAGE_DATA_KEYED) {
		head = sizeof(struct message_data_keyed);
		MUST(size == head && !memcmp(message + 16, mesh_peers[peer].own_public, KEY_SIZE));
		mesh_header_tag(tag, mesh_peers[peer].send_header_key, message);
		MUST(!memcmp(tag, message + 48, sizeof(tag)));
	} else {
		MUST(message[0] == MESSAGE_DATA);
	}
	if (peer == 1)
		MUST((ip[2] << 8 | ip[3]) == (int)(28 + size) && ip[9] == 17);
	else
		MUST((ip[4] << 8 | ip[5]) == (int)(8 + size) && ip[6] == 17);
	MUST((message[-4] << 8 | message[-3]) == (int)(8 + size));
	memcpy(&last, message + 8, 8);
	MUST(!(last >> COUNTER_BITS) && message[3] == kernel_cpu % LANES);
	MUST(!memcmp(message + 4, &mesh_peers[peer].remote_index, 4));
	last |= (__u64)message[3] << 56;
	mesh_nonce(nonce, &mesh_peers[peer].send, last);
	inner = size - head;
	MUST(!crypto_secretbox_open_easy(opened, message + head - TAG_SIZE, inner + TAG_SIZE, nonce,
					 mesh_peers[peer].send.key));
	for (i = 0; i < used_count; i++)
		MUST(used[i].nonce != last || used[i].peer != peer);
	used[used_count].nonce = last;
	used[used_count++].peer = peer;
	if (!inner) { /* only a request that no socket can send gives an empty one */
		static const __u8 unspecified[16];

		MUST(length >= 40 && text[0] >> 4 == 6 &&
		     text[6] == KEEPALIVE_REQUEST_NEXT_HEADER);
		MUST(!memcmp(text + 24, unspecified, 16));
		return;
	}
	MUST(inner <= length && !memcmp(opened, text, inner));
	MUST(peer == destination(text, length));
	MUST(inner == (text[0] >> 4 == 4 ? (__u32)(text[2] << 8 | text[3]) :
					   (__u32)(text[4] << 8 | text[5]) + 40));
}

static void step(struct input *input)
{
	struct __sk_buff skb = {};
	__u32 how = input_number(input, 1), length = input_number(input, 2) % 10240, got;
	int verdict, reason;

	kernel_cpu = input_number(input, 1);
	kernel_now += input_number(input, 1) << 20;
	memset(packet, 2, 12);
	got = input_bytes(input, packet + 14, how & 4 ? length : length % 256);
	if (how & 4) /* as long as it says, by zeros */
		memset(packet + 14 + got, 0, length - got), got = length;
	packet[12] = how & 1 ? 0x86 : 0x08;
	packet[13] = how & 1 ? 0xdd : 0x00;
	skb.protocol = how & 1 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	skb.vlan_present = (how & 0xf0) == 0x10;
	skb.gso_size = (how & 0xf0) == 0x20 ? 1400 : 0;
	skb.len = 14 + got;
	frame_set(packet, 14 + got, 0);
	kernel_redirected = 0;
	verdict = seal(&skb);
	reason = mesh_reason();
	MUST(verdict == TC_ACT_SHOT || verdict == TC_ACT_REDIRECT);
	MUST((verdict == TC_ACT_REDIRECT) == (kernel_redirected == MESH_UNDERLAY));
	MUST((verdict == TC_ACT_REDIRECT) == (reason == STAT_SEAL_OK));
	if (verdict == TC_ACT_REDIRECT) {
		MUST(!skb.vlan_present && !skb.gso_size);
		check_sent(packet + 14, got, skb.protocol);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, data + size };
	__u32 steps;

	mesh_make();
	memset(mesh_stats, 0, sizeof(mesh_stats));
	used_count = 0;
	for (steps = 0; input.at < input.end && steps < STEPS; steps++)
		step(&input);
	return 0;
}
