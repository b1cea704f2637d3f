/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * X25519 (RFC 7748): the Montgomery ladder, and refusal of points of low order.
 *
 * Constant in time: the ladder takes 255 equal steps, the private key's bits act
 * only through a mask, and neither a branch nor an address depends on them. The
 * caller brings the work area: programs of different hooks must not share one.
 */
#ifndef BRINE_X25519_H
#define BRINE_X25519_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "field25519.h"
#include "key.h"

enum x25519_size {
	X25519_BITS = 255,
};

enum x25519_result {
	X25519_DONE = 0,
	X25519_LOW_ORDER = 1, /* all zeros: anyone could have computed it */
};

struct x25519 {
	struct key_words shared; /* out */
	/* The rest holds secrets while x25519() runs and zeros when it is back. */
	struct x25519_scratch {
		struct key_words scalar; /* the private key, clamped */
		__u64 bit; /* of the step before */
		__u64 choose; /* all ones: this step doubles the other point */
		/* The peer's point; the multiple that the last step doubled; and the
		 * one that differs from that by the peer's point. */
		struct field25519 x1, x2, z2, x3, z3;
		struct field25519 a, b, c, d, e, f;
	} scratch;
};

struct x25519_loop { /* what bpf_loop hands to the callbacks */
	struct x25519_scratch *scratch;
};

/* One step: (x2 : z2) becomes twice itself, or twice (x3 : z3) if `choose`, and
 * (x3 : z3) the sum of both. RFC 7748, section 5, swaps both points instead; but
 * their sum does not notice, as DA and CB then change places, so that choosing
 * what to double is enough.
 *
 * Between steps x2, z2, x3, z3 are reduced. */
__noinline int x25519_step(struct x25519_scratch *s)
{
	__s64 choose;
	int i;

	if (!s)
		return -1;
	choose = s->choose;
	barrier_var(choose); /* a mask, not a condition */

	/* a = x2 + z2, c = x3 + z3: limbs to 2^30 + 2^17; b, d: the differences,
	 * below 2^29 + 2^17; e, f: (a, b) or (c, d), e centred like f. */
#pragma clang loop unroll(full)
	for (i = 0; i < FIELD25519_LIMBS; i++) {
		__s64 a = s->x2.limb[i] + s->z2.limb[i];
		__s64 b = s->x2.limb[i] - s->z2.limb[i];
		__s64 c = s->x3.limb[i] + s->z3.limb[i];
		__s64 d = s->x3.limb[i] - s->z3.limb[i];

		s->a.limb[i] = a;
		s->b.limb[i] = b;
		s->c.limb[i] = c;
		s->d.limb[i] = d;
		s->e.limb[i] = (a ^ ((a ^ c) & choose)) - FIELD25519_CENTRE(i);
		s->f.limb[i] = b ^ ((b ^ d) & choose);
		barrier();
	}
	/* a and c are over `loose`, but 9 * (2^30 + 2^17) * (2^29 + 2^17) < 2^62.2 */
	field25519_multiply_inline(&s->x2, &s->d, &s->a); /* DA */
	field25519_multiply_inline(&s->z2, &s->c, &s->b); /* CB */
	field25519_square_inline(&s->a, &s->e); /* AA */
	field25519_square_inline(&s->b, &s->f); /* BB */

	field25519_sum_difference(&s->c, &s->d, &s->x2, &s->z2);
	field25519_square_inline(&s->x3, &s->c); /* (DA + CB)^2 */
	field25519_square_inline(&s->e, &s->d);
	field25519_multiply_inline(&s->z3, &s->x1, &s->e); /* x1 (DA - CB)^2 */

	field25519_curve(&s->e, &s->f, &s->a, &s->b); /* E = AA - BB, AA + a24 E */
	field25519_multiply_inline(&s->x2, &s->a, &s->b);
	field25519_multiply_inline(&s->z2, &s->e, &s->f);
	return 0;
}

static long x25519_ladder_callback(__u64 step, struct x25519_loop *loop)
{
	struct x25519_scratch *s = loop->scratch;
	__u64 position = X25519_BITS - 1 - step, bit;

	if (position >= X25519_BITS)
		return 1;
	bit = s->scalar.word[position / 64] >> (position % 64) & 1;
	s->choose = 0 - (bit ^ s->bit);
	s->bit = bit;
	x25519_step(s);
	return 0;
}

/* a to b, b to a, a to b ... */
static long x25519_square_callback(__u64 step, struct x25519_loop *loop)
{
	struct x25519_scratch *s = loop->scratch;

	if (step & 1)
		field25519_square(&s->a, &s->b);
	else
		field25519_square(&s->b, &s->a);
	return 0;
}

/* a = a^(2^times) * by, through b. */
static __always_inline void x25519_power(struct x25519_loop *loop, __u32 times,
					 const struct field25519 *by)
{
	struct x25519_scratch *s = loop->scratch;

	bpf_loop(times, x25519_square_callback, loop, 0);
	if (times & 1)
		field25519_copy(&s->a, &s->b);
	field25519_multiply(&s->b, &s->a, by);
	field25519_copy(&s->a, &s->b);
}

/* a = z2^(p - 2) = 1 / z2, or 0 of 0. Exponents are on the right. */
static __always_inline void x25519_invert(struct x25519_loop *loop)
{
	struct x25519_scratch *s = loop->scratch;

	field25519_square(&s->c, &s->z2); /* 2 */
	field25519_copy(&s->a, &s->c);
	x25519_power(loop, 2, &s->z2); /* 9 */
	field25519_copy(&s->d, &s->a);
	field25519_multiply(&s->b, &s->a, &s->c); /* 11 */
	field25519_copy(&s->c, &s->b);
	field25519_copy(&s->a, &s->b);
	x25519_power(loop, 1, &s->d); /* 31 = 2^5 - 1 */
	field25519_copy(&s->d, &s->a);
	x25519_power(loop, 5, &s->d); /* 2^10 - 1 */
	field25519_copy(&s->d, &s->a);
	x25519_power(loop, 10, &s->d); /* 2^20 - 1 */
	field25519_copy(&s->e, &s->a);
	x25519_power(loop, 20, &s->e); /* 2^40 - 1 */
	x25519_power(loop, 10, &s->d); /* 2^50 - 1 */
	field25519_copy(&s->d, &s->a);
	x25519_power(loop, 50, &s->d); /* 2^100 - 1 */
	field25519_copy(&s->e, &s->a);
	x25519_power(loop, 100, &s->e); /* 2^200 - 1 */
	x25519_power(loop, 50, &s->d); /* 2^250 - 1 */
	x25519_power(loop, 5, &s->c); /* 2^255 - 21 */
}

/* shared = X25519(private, public). Returns an enum x25519_result, which is no
 * secret, or -1 without an argument. */
__noinline int x25519(struct x25519 *work, const struct key_words *private,
		      const struct key_words *public)
{
	struct x25519_loop loop;
	struct x25519_scratch *s;
	__u64 any;

	if (!work || !private || !public)
		return -1;
	s = &work->scratch;
	loop.scratch = s;

	s->scalar = *private;
	s->scalar.word[0] &= ~7ULL;
	s->scalar.word[3] &= ~(1ULL << 63);
	s->scalar.word[3] |= 1ULL << 62;
	s->bit = 0;
	field25519_load(&s->x1, public);
	field25519_set(&s->x2, 1);
	field25519_set(&s->z2, 0);
	field25519_copy(&s->x3, &s->x1);
	field25519_set(&s->z3, 1);

	/* The last three bits are zeros, so what was doubled last is the result. */
	bpf_loop(X25519_BITS, x25519_ladder_callback, &loop, 0);
	x25519_invert(&loop);
	field25519_multiply(&s->b, &s->x2, &s->a);
	field25519_store(&work->shared, &s->b);
	overwrite(s, sizeof(*s));

	any = work->shared.word[0] | work->shared.word[1] |
	      work->shared.word[2] | work->shared.word[3];
	return (int)(1 ^ any_bit(any));
}

#endif
