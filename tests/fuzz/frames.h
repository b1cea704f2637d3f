/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A packet as the kernel holds it, for the native programs: an XDP buffer, of which
 * only the first part may be linear, and an skb. Bytes outside are poisoned.
 */
#ifndef BRINE_FUZZ_FRAMES_H
#define BRINE_FUZZ_FRAMES_H

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include "kernel.h"

enum frame_size {
	FRAME_ROOM = 65536, /* in front, and behind */
	FRAME_HEADROOM = 256, /* XDP_PACKET_HEADROOM */
	FRAME_MAX = 16384,
};

static __u8 *frame_area; /* contexts of XDP hold 32 bits of an address */
static __u8 *frame_start;
static __u32 frame_length;
static __u32 frame_linear; /* XDP: what data_end bounds */
static __u32 frame_room; /* XDP: what adjust_head may take in front */

static void frame_fence(void)
{
	__asan_poison_memory_region(frame_area, 2 * FRAME_ROOM);
	__asan_unpoison_memory_region(frame_start, frame_length);
}

static void frame_set(const __u8 *data, __u32 length, __u32 linear)
{
	if (!frame_area) {
		frame_area = mmap(NULL, 2 * FRAME_ROOM, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		MUST(frame_area != MAP_FAILED);
	}
	MUST(length <= FRAME_MAX);
	frame_start = frame_area + FRAME_ROOM;
	frame_length = length;
	frame_linear = linear < length ? linear : length;
	frame_room = FRAME_HEADROOM;
	frame_fence();
	memcpy(frame_start, data, length);
}

/* Move the start by `delta`; what comes in at the front is rubbish. */
static void frame_move(int delta)
{
	frame_start += delta;
	frame_length -= delta;
	frame_fence();
	if (delta < 0)
		memset(frame_start, 0xa5, -delta);
}

static int frame_within(__u64 offset, __u64 length)
{
	return offset <= frame_length && length <= frame_length - offset;
}

/* XDP: net/core/filter.c of the kernel says when these refuse. */

static void frame_context(struct xdp_md *ctx)
{
	ctx->data = (__u32)(unsigned long)frame_start;
	ctx->data_end = ctx->data + frame_linear;
}

__u64 bpf_xdp_get_buff_len(struct xdp_md *ctx)
{
	(void)ctx;
	return frame_length;
}

long bpf_xdp_load_bytes(struct xdp_md *ctx, __u32 offset, void *to, __u32 length)
{
	(void)ctx;
	if (!length || !frame_within(offset, length))
		return -22;
	memcpy(to, frame_start + offset, length);
	return 0;
}

long bpf_xdp_store_bytes(struct xdp_md *ctx, __u32 offset, void *from, __u32 length)
{
	(void)ctx;
	if (!length || !frame_within(offset, length))
		return -22;
	memcpy(frame_start + offset, from, length);
	return 0;
}

long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta)
{
	if (delta < -(int)frame_room || delta + 14 > (int)frame_linear)
		return -22;
	frame_room += delta;
	frame_linear -= delta;
	frame_move(delta);
	frame_context(ctx);
	return 0;
}

long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta)
{
	if (delta > 0 || (int)frame_length + delta < 14)
		return -22;
	frame_length += delta;
	if (frame_linear > frame_length)
		frame_linear = frame_length;
	frame_fence();
	frame_context(ctx);
	return 0;
}

/* TC */

long bpf_skb_load_bytes(const void *skb, __u32 offset, void *to, __u32 length)
{
	(void)skb;
	if (!length || !frame_within(offset, length))
		return -14;
	memcpy(to, frame_start + offset, length);
	return 0;
}

long bpf_skb_store_bytes(struct __sk_buff *skb, __u32 offset, const void *from,
			 __u32 length, __u64 flags)
{
	(void)skb;
	(void)flags;
	if (!length || !frame_within(offset, length))
		return -14;
	memcpy(frame_start + offset, from, length);
	return 0;
}

/* The Ethernet header stays in front. */
static void frame_insert(struct __sk_buff *skb, int bytes)
{
	__u8 ethernet[14];

	memcpy(ethernet, frame_start, sizeof(ethernet));
	frame_move(-bytes);
	memcpy(frame_start, ethernet, sizeof(ethernet));
	skb->len = frame_length;
}

long bpf_skb_change_proto(struct __sk_buff *skb, __be16 protocol, __u64 flags)
{
	int bytes = protocol == __builtin_bswap16(0x86dd) ? 20 : -20;

	if (flags || skb->gso_size || frame_length < 14 + 20u ||
	    (bytes < 0 && frame_length < 14 + 40u))
		return -95;
	frame_insert(skb, bytes);
	skb->protocol = protocol;
	return 0;
}

long bpf_skb_adjust_room(struct __sk_buff *skb, __s32 room, __u32 mode, __u64 flags)
{
	__u32 least = skb->protocol == __builtin_bswap16(0x86dd) ? 40 : 20;

	if (flags || mode != 1 /* BPF_ADJ_ROOM_MAC */ || room > 0xfff || room < -0xfff)
		return -14;
	if (room < 0 && (__u32)-room + least + 14 > frame_length)
		return -95;
	frame_insert(skb, room);
	return 0;
}

#endif
