/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Poly1305 (Bernstein, "The Poly1305-AES message-authentication code", 2005).
 *
 * Radix 2^32: sixteen multiplications a block where the usual 2^26 needs
 * twenty-five, since BPF's only wide product is 64 bits. It works because r is
 * clamped: its words are below 2^28 and r1..r3 are multiples of four, so that
 * r_i / 4 * 5 is exact and 2^130 = 5 (mod p) folds the upper half for free.
 */
#ifndef BRINE_POLY1305_H
#define BRINE_POLY1305_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

enum poly1305_size {
	POLY1305_BLOCK = 16,
	POLY1305_UNROLL = 4, /* blocks a loop callback takes */
};

struct poly1305 {
	__u32 r[4]; /* clamped: r0 < 2^28, r1..r3 < 2^28 and = 0 mod 4 */
	__u32 s[4];
	__u32 h[5]; /* the sum so far: h0..h3 any, h4 <= 4 */
};

static __always_inline void poly1305_init(struct poly1305 *mac,
					  const __u32 key[8])
{
	mac->r[0] = key[0] & 0x0fffffff;
	mac->r[1] = key[1] & 0x0ffffffc;
	mac->r[2] = key[2] & 0x0ffffffc;
	mac->r[3] = key[3] & 0x0ffffffc;
	mac->s[0] = key[4];
	mac->s[1] = key[5];
	mac->s[2] = key[6];
	mac->s[3] = key[7];
	mac->h[0] = mac->h[1] = mac->h[2] = mac->h[3] = mac->h[4] = 0;
}

/* h = (h + block + 2^128 * top) * r mod 2^130 - 5, partly reduced.
 * `top` is 1 for a whole block, 0 for a last one padded by hand. */
static __always_inline void poly1305_step(__u64 h[5], const __u64 r[4],
					  const __u32 block[4], __u32 top)
{
	/* a0..a3 < 2^33, a4 <= 5 */
	__u64 a0 = h[0] + block[0], a1 = h[1] + block[1];
	__u64 a2 = h[2] + block[2], a3 = h[3] + block[3];
	__u64 a4 = h[4] + top;
	/* f_i = r_i * 5 / 4 < 2^28.4; r0's low two bits go into p4 instead */
	__u64 f0 = (r[0] >> 2) * 5, f1 = r[1] + (r[1] >> 2);
	__u64 f2 = r[2] + (r[2] >> 2), f3 = r[3] + (r[3] >> 2);
	/* a_i * r_i < 2^61, a_i * f_j < 2^61.4, a4 * f_j < 2^31: p0..p3 < 2^63.3 */
	__u64 p0 = a0 * r[0] + a1 * f3 + a2 * f2 + a3 * f1 + a4 * f0;
	__u64 p1 = a0 * r[1] + a1 * r[0] + a2 * f3 + a3 * f2 + a4 * f1;
	__u64 p2 = a0 * r[2] + a1 * r[1] + a2 * r[0] + a3 * f3 + a4 * f2;
	__u64 p3 = a0 * r[3] + a1 * r[2] + a2 * r[1] + a3 * r[0] + a4 * f3;
	/* 2^128 and up: < 2^33 */
	__u64 p4 = a4 * (r[0] & 3) + (p3 >> 32);

	p0 += (p4 >> 2) * 5; /* adds < 2^33.4 */
	p1 += p0 >> 32;
	p2 += p1 >> 32;
	p3 = (__u32)p3 + (p2 >> 32); /* < 2^33 */
	h[0] = (__u32)p0;
	h[1] = (__u32)p1;
	h[2] = (__u32)p2;
	h[3] = (__u32)p3;
	h[4] = (p4 & 3) + (p3 >> 32); /* <= 4 */
}

/* `blocks` whole blocks at `text`, a constant so that the loop unrolls and the
 * sum stays in registers. */
static __always_inline void poly1305_blocks(struct poly1305 *mac,
					    const __u32 *text, int blocks)
{
	__u64 h[5] = { mac->h[0], mac->h[1], mac->h[2], mac->h[3], mac->h[4] };
	const __u64 r[4] = { mac->r[0], mac->r[1], mac->r[2], mac->r[3] };
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < blocks; i++)
		poly1305_step(h, r, text + 4 * i, 1);
	mac->h[0] = h[0];
	mac->h[1] = h[1];
	mac->h[2] = h[2];
	mac->h[3] = h[3];
	mac->h[4] = h[4];
}

/* A last, short block: the caller appended the byte 1 and zeros. */
static __always_inline void poly1305_last(struct poly1305 *mac,
					  const __u32 block[4])
{
	__u64 h[5] = { mac->h[0], mac->h[1], mac->h[2], mac->h[3], mac->h[4] };
	const __u64 r[4] = { mac->r[0], mac->r[1], mac->r[2], mac->r[3] };

	poly1305_step(h, r, block, 0);
	mac->h[0] = h[0];
	mac->h[1] = h[1];
	mac->h[2] = h[2];
	mac->h[3] = h[3];
	mac->h[4] = h[4];
}

static __always_inline void poly1305_tag(const struct poly1305 *mac, __u32 tag[4])
{
	__u64 h0 = mac->h[0], h1 = mac->h[1], h2 = mac->h[2], h3 = mac->h[3];
	__u64 h4 = mac->h[4], c, mask;

	/* h < 2^131: fold what lies above 2^130, then h < 2^130 + 2^3 * 5 */
	c = (h4 >> 2) * 5;
	h4 &= 3;
	h0 += c;
	h1 += h0 >> 32;
	h2 += h1 >> 32;
	h3 += h2 >> 32;
	h4 += h3 >> 32;
	h0 = (__u32)h0;
	h1 = (__u32)h1;
	h2 = (__u32)h2;
	h3 = (__u32)h3;

	/* h + 5 reaches 2^130 exactly when h >= p: then take h - p. A carry that
	 * made h4 = 4 above is the same case. Without a branch: c is 0 or 1. */
	c = (h0 + 5) >> 32;
	c = (h1 + c) >> 32;
	c = (h2 + c) >> 32;
	c = (h3 + c) >> 32;
	c = (h4 + c) >> 2;
	mask = 0 - c;
	h0 += 5 & mask;
	h1 += h0 >> 32;
	h2 += h1 >> 32;
	h3 += h2 >> 32;

	h0 = (__u32)h0 + (__u64)mac->s[0];
	h1 = (__u32)h1 + (__u64)mac->s[1] + (h0 >> 32);
	h2 = (__u32)h2 + (__u64)mac->s[2] + (h1 >> 32);
	h3 = (__u32)h3 + (__u64)mac->s[3] + (h2 >> 32);
	tag[0] = h0;
	tag[1] = h1;
	tag[2] = h2;
	tag[3] = h3;
}

#endif
