/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * `open` on what the network may bring: any bytes, and packets sealed by libsodium
 * of which some bytes were changed. Input: steps; open_step() says of what.
 *
 * What must hold: a packet is delivered exactly if it is untouched where it matters,
 * of a fresh number, and from an address that its peer may use; what is delivered is
 * what was sealed; what does not authenticate changes nothing; each packet is
 * counted once.
 */
#include "mesh.h"
#include "window.h"

enum { GENERATIONS = 5 };

static __u8 frame[FRAME_MAX], sealed_text[FRAME_MAX], scratch[FRAME_MAX];
static struct window_list lists[MESH_PEERS + 1][LANES]; /* of generation 0 */
static struct window_list ratchet_lists[MESH_PEERS + 1][GENERATIONS][LANES];
static struct {
	__u8 confirmed, adopted, derived, key[GENERATIONS];
} ratchets[MESH_PEERS + 1];

static struct windows *window_of(__u32 peer)
{
	__u32 key = peer * PAIRS;

	return bpf_map_lookup_elem(&windows, &key);
}

static int run_open(__u32 length, __u32 linear)
{
	struct xdp_md ctx = {};
	int verdict;

	frame_set(frame, length, linear);
	frame_context(&ctx);
	kernel_redirected = 0;
	verdict = brine_open(&ctx);
	MUST(verdict == XDP_DROP || verdict == XDP_PASS || verdict == XDP_REDIRECT);
	MUST((verdict == XDP_REDIRECT) == (kernel_redirected == MESH_INSIDE));
	return verdict;
}

/* What did not authenticate leaves no trace. */
static void check_untouched(const struct windows *before, __u32 peer)
{
	MUST(!memcmp(before, window_of(peer), sizeof(*before)));
}

static void raw_step(struct input *input)
{
	struct windows before[MESH_PEERS + 1];
	__u32 length = input_number(input, 2) % 2048, linear = input_number(input, 1) * 8;
	int verdict, reason, peer;

	length = input_bytes(input, frame, length);
	if (length < 14)
		return; /* no driver hands over less than an Ethernet header */
	for (peer = 1; peer <= MESH_PEERS; peer++)
		before[peer] = *window_of(peer);
	verdict = run_open(length, linear < 14 ? 14 : linear);
	reason = mesh_reason();
	MUST(verdict != XDP_REDIRECT);
	MUST(reason != STAT_OPEN_OK && reason != STAT_OPEN_KEEPALIVE);
	MUST((verdict == XDP_PASS) == (reason == STAT_OPEN_PASS_OTHER ||
				       reason == STAT_OPEN_PASS_EXCHANGE ||
				       reason == STAT_OPEN_PASS_UNKNOWN));
	if (verdict == XDP_PASS) /* as it came */
		MUST(frame_length == length && !memcmp(frame_start, frame, length));
	for (peer = 1; peer <= MESH_PEERS; peer++)
		check_untouched(&before[peer], peer);
}

/* An inner packet of right form in sealed_text: 0 if that is not asked for. */
static __u32 inner_make(struct input *input)
{
	__u32 how = input_number(input, 1), source = input_number(input, 1) % 6, length;
	__u8 *text = sealed_text;

	if (how & 1) /* any bytes */
		return input_bytes(input, text, input_number(input, 2) % 1500);
	length = input_number(input, 1);
	memset(text, 0, 40);
	if (how & 2) {
		struct iphdr *ip = (struct iphdr *)text;
		struct address from = source < 5 ? mesh_address4(0x0a4d0000 + source) :
						   mesh_address4(0xc6336407);

		ip->version = 4;
		ip->ihl = 5;
		ip->tos = how >> 2;
		ip->ttl = 64;
		ip->protocol = 17;
		ip->tot_len = bpf_htons(20 + length);
		memcpy(&ip->saddr, from.bytes + 12, 4);
		ip->daddr = bpf_htonl(0x0a4d0001);
		ip->check = ipv4_checksum(ip);
		return 20 + input_bytes(input, text + 20, length);
	}
	text[0] = 0x60 | how >> 6;
	text[1] = how << 2;
	text[5] = length;
	text[6] = 17;
	memcpy(text + 8, mesh_inner6, 15);
	text[23] = source;
	memcpy(text + 24, mesh_inner6, 15);
	text[39] = 1;
	return 40 + input_bytes(input, text + 40, length);
}

/* Is it an IP packet of exactly that length, and of an address of that peer? Written
 * apart from bpf/packet.h and route.h. Returns the reason why not, or 0. */
static int inner_judge(__u32 length, __u32 peer, __u8 outer_class)
{
	static const __u8 own4[3] = { 10, 77, 0 }, lan[3] = { 198, 51, 100 };
	const __u8 *text = sealed_text;
	__u8 ecn;

	if (length >= 20 && text[0] >> 4 == 4) {
		if ((text[0] & 15) < 5 || (text[0] & 15) * 4u > length ||
		    (text[2] << 8 | text[3]) != (int)length)
			return STAT_OPEN_INNER;
		if (!(peer == 2 && !memcmp(text + 12, lan, 3)) &&
		    !(text[15] == 1 + peer && !memcmp(text + 12, own4, 3)))
			return STAT_OPEN_SOURCE;
		ecn = text[1] & 3;
	} else if (length >= 40 && text[0] >> 4 == 6) {
		if ((text[4] << 8 | text[5]) + 40 != (int)length)
			return STAT_OPEN_INNER;
		if (memcmp(text + 8, mesh_inner6, 15) || text[23] != 1 + peer)
			return STAT_OPEN_SOURCE;
		ecn = text[1] >> 4 & 3;
	} else {
		return STAT_OPEN_INNER;
	}
	return (outer_class & 3) == 3 && !ecn ? STAT_OPEN_ECN : 0;
}

/* Put the outer headers before the message in `frame`; returns where it begins. */
static __u32 outer_make(__u32 peer, __u8 class, __u32 size, int vlan)
{
	__u32 at = 14 + 4 * vlan, udp;
	struct udphdr *header;

	memset(frame, 2, 12);
	memset(frame + 12, 0, at + 48 - 12);
	if (vlan) {
		frame[12] = 0x81;
		frame[15] = 5;
	}
	if (peer == 1) {
		struct iphdr *ip = (struct iphdr *)(frame + at);

		frame[at - 2] = 8;
		frame[at - 1] = 0;
		udp = at + 20;
		ip->version = 4;
		ip->ihl = 5;
		ip->tos = class;
		ip->ttl = 64;
		ip->protocol = 17;
		ip->tot_len = bpf_htons(28 + size);
		ip->saddr = bpf_htonl(0xc0000202);
		ip->daddr = bpf_htonl(0xc0000201);
	} else {
		frame[at - 2] = 0x86;
		frame[at - 1] = 0xdd;
		udp = at + 40;
		frame[at] = 0x60 | class >> 4;
		frame[at + 1] = class << 4;
		frame[at + 4] = (size + 8) >> 8;
		frame[at + 5] = size + 8;
		frame[at + 6] = 17;
		frame[at + 7] = 64;
		memcpy(frame + at + 8, mesh_outer6, 15);
		frame[at + 23] = 3;
		memcpy(frame + at + 24, mesh_outer6, 15);
		frame[at + 39] = 1;
	}
	header = (struct udphdr *)(frame + udp);
	header->source = bpf_htons(50000);
	header->dest = bpf_htons(MESH_PORT);
	header->len = bpf_htons(8 + size);
	return udp + 8;
}

/* What was delivered is Ethernet for brine0 and the text, but for its ECN bits. */
static void check_delivered(__u32 length)
{
	const __u8 *text = frame_start + 14;
	__u32 i, first = sealed_text[0] >> 4 == 4 ? 12 : 2;

	MUST(frame_length == 14 + length);
	MUST(!memcmp(frame_start, mesh_mac, 6) && !memcmp(frame_start + 6, mesh_mac, 6));
	MUST(sealed_text[0] >> 4 == 4 ? frame_start[12] == 8 : frame_start[12] == 0x86);
	for (i = first; i < length; i++)
		MUST(text[i] == sealed_text[i]);
	MUST(text[0] == sealed_text[0]);
	if (first == 12) {
		MUST(!((text[1] ^ sealed_text[1]) & ~3));
		MUST(!memcmp(text + 2, sealed_text + 2, 8));
	} else {
		MUST(!((text[1] ^ sealed_text[1]) & ~0x30));
	}
}

static void sealed_step(struct input *input)
{
	__u32 how = input_number(input, 1), peer = 1 + (how & 1), lane, flips, length, at;
	__u32 header_size, size, padding = how & 4 ? input_number(input, 1) : 0, linear;
	__u8 class = input_number(input, 1), nonce[24], *message;
	int vlan = how >> 1 & 1, keyed = how >> 3 & 1, touched = 0, verdict, reason, expected;
	struct windows before;
	__u64 counter;

	lane = input_number(input, 1);
	lane = how & 16 ? lane : lane % LANES;
	counter = how & 32 ? input_number(input, 7) : input_number(input, 2);
	linear = how & 64 ? input_number(input, 1) : FRAME_MAX;
	length = inner_make(input);
	header_size = keyed ? sizeof(struct message_data_keyed) : sizeof(struct message_data);
	size = header_size + length;
	at = outer_make(peer, class, size, vlan);
	message = frame + at;
	memset(message, 0, header_size);
	message[0] = keyed ? MESSAGE_DATA_KEYED : MESSAGE_DATA;
	message[3] = lane;
	memcpy(message + 4, &mesh_peers[peer].local_index, 4);
	memcpy(message + 8, &counter, 8);
	mesh_nonce(nonce, &mesh_peers[peer].receive, (__u64)lane << 56 | counter);
	MUST(!crypto_secretbox_easy(message + header_size - TAG_SIZE, sealed_text, length,
				    nonce, mesh_peers[peer].receive.key));
	memset(message + size, 0x5a, padding);
	for (flips = input_number(input, 1) % 4; flips; flips--) {
		__u32 place = input_number(input, 2) % (at + size);

		frame[place] ^= input_number(input, 1);
	}
	/* The outer headers are nobody's but the network's: those that were changed
	 * may lead anywhere but to the delivery of something else. */
	touched = memcmp(message + 8, &counter, 8) || message[3] != lane ||
		memcmp(message + 4, &mesh_peers[peer].local_index, 4) ||
		crypto_secretbox_open_easy(scratch, message + header_size - TAG_SIZE,
					   length + TAG_SIZE, nonce,
					   mesh_peers[peer].receive.key);

	before = *window_of(peer);
	verdict = run_open(at + size + padding, linear < 14 ? 14 : linear);
	reason = mesh_reason();
	if (touched || lane >= LANES || counter >> COUNTER_BITS ||
	    !window_would(&lists[peer][lane], counter)) {
		MUST(verdict != XDP_REDIRECT && reason != STAT_OPEN_KEEPALIVE);
		check_untouched(&before, peer);
		return;
	}
	expected = length ? inner_judge(length, peer, frame[14 + 4 * vlan] >> 4 == 4 ?
				frame[15 + 4 * vlan] : frame[15 + 4 * vlan] >> 4) :
			    STAT_OPEN_KEEPALIVE;
	if (verdict == XDP_REDIRECT) {
		MUST(!expected && reason == STAT_OPEN_OK);
		check_delivered(length);
	}
	if (memcmp(&before, window_of(peer), sizeof(before))) {
		/* it authenticated: only the inner packet may still be refused */
		MUST(reason == (expected ? expected : STAT_OPEN_OK) || reason == STAT_OPEN_ERROR);
		window_add(&lists[peer][lane], counter);
		ratchets[peer].confirmed = 1;
	} else {
		MUST(verdict != XDP_REDIRECT && reason != STAT_OPEN_KEEPALIVE);
	}
}

/* The peer announces generations 1 to 4, each with one of two keys, or with one that
 * must be refused; or sends data on such a pair. */
static void ratchet_step(struct input *input)
{
	__u32 how = input_number(input, 1), peer = 1 + (how & 1), kind = how >> 1 & 3, at;
	__u32 generation = 1 + input_number(input, 1) % (GENERATIONS - 1), lane, header_size;
	int keyed = !(how & 16), bad_header = how & 8, bad_tag = how & 32, good, reason;
	__u8 private[32], public[32], nonce[24], *message;
	struct window_list *list;
	struct control_box box;
	__u64 counter, age;

	lane = input_number(input, 1) % LANES;
	counter = input_number(input, 2);
	kernel_now += input_number(input, 1) << 28; /* up to 68 s */
	list = &ratchet_lists[peer][generation][lane];
	memset(private, 0x10 + generation * 4 + kind + peer * 64, sizeof(private));
	crypto_scalarmult_base(public, private);
	if (kind == 2)
		memset(public, 0, sizeof(public)); /* of low order */
	if (kind == 3)
		memcpy(public, mesh_peers[peer].own_public, sizeof(public));
	MUST(!mesh_derive(&box, &mesh_peers[peer], generation, private, public));

	header_size = keyed ? sizeof(struct message_data_keyed) : sizeof(struct message_data);
	at = outer_make(peer, 0, header_size, 0);
	message = frame + at;
	memset(message, 0, header_size);
	message[0] = keyed ? MESSAGE_DATA_KEYED : MESSAGE_DATA;
	message[1] = generation;
	message[3] = lane;
	memcpy(message + 4, &mesh_peers[peer].local_index, 4);
	memcpy(message + 8, &counter, 8);
	if (keyed) {
		memcpy(message + 16, public, KEY_SIZE);
		mesh_header_tag(message + 48, mesh_peers[peer].receive_header_key, message);
		message[48] ^= bad_header;
	}
	mesh_nonce(nonce, &box, (__u64)lane << 56 | counter);
	MUST(!crypto_secretbox_easy(message + header_size - TAG_SIZE, sealed_text, 0, nonce,
				    box.key));
	message[header_size - 1] ^= bad_tag;

	MUST(run_open(at + header_size, FRAME_MAX) == XDP_DROP);
	reason = mesh_reason();
	MUST(reason != STAT_OPEN_OK && reason != STAT_OPEN_ERROR);
	good = !bad_tag && kind < 2 && window_would(list, counter);
	age = (kernel_now - KERNEL_START) / SECOND_NS;
	if (reason == STAT_OPEN_KEEPALIVE) {
		MUST(good);
		if (generation > ratchets[peer].adopted) {
			/* one by one, and by a packet that brings a vouched-for key, or
			 * follows one that did */
			MUST(generation == ratchets[peer].adopted + 1u);
			ratchets[peer].adopted = generation;
			ratchets[peer].key[generation] = kind;
		}
		MUST(generation + 1u >= ratchets[peer].adopted);
		MUST(ratchets[peer].key[generation] == kind);
		window_add(list, counter);
	} else if (good && keyed && !bad_header && !ratchets[peer].derived) {
		/* The first announcement of all: nothing stands against it but its place,
		 * the age of the keys, or that nothing else has come yet. */
		MUST(generation != 1 || !ratchets[peer].confirmed ||
		     age < RATCHET_REST_SECONDS || age >= PAIR_SEND_SECONDS);
	}
	ratchets[peer].derived |= keyed && !bad_header && generation == 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, data + size };
	__u32 peer, lane, steps;

	mesh_make();
	memset(mesh_stats, 0, sizeof(mesh_stats));
	for (peer = 1; peer <= MESH_PEERS; peer++)
		for (lane = 0; lane < LANES; lane++)
			lists[peer][lane].highest = lists[peer][lane].count = 0;
	memset(ratchets, 0, sizeof(ratchets));
	for (peer = 1; peer <= MESH_PEERS; peer++)
		for (lane = 0; lane < LANES * GENERATIONS; lane++) {
			struct window_list *list =
				&ratchet_lists[peer][lane / LANES][lane % LANES];

			list->highest = list->count = 0;
		}
	for (steps = 0; input.at < input.end && steps < 64; steps++) {
		__u32 kind = input_number(&input, 1);

		if (kind & 1)
			sealed_step(&input);
		else if (kind & 2)
			ratchet_step(&input);
		else
			raw_step(&input);
	}
	return 0;
}
