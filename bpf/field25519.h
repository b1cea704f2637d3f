/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Arithmetic modulo p = 2^255 - 19 for X25519.
 *
 * Nine limbs of 29 bits, signed. BPF's only product is 64 bits wide and it has
 * ten registers, so what counts is the number of products and of loads: nine
 * limbs need 81 products (45 to square) where the usual ten of 25.5 bits need
 * 100 (55) and a list of premultiplied ones. The price is that the product's
 * upper half must be carried before it folds, since 2^261 = 64 * 19 = 1216
 * (mod p) and an uncarried column has no room for eleven bits more.
 *
 * Bounds, which docs/crypto.md derives and tests/native checks:
 *   reduced   limb 1 in [-2^16, 2^29 + 2^16), all others in [0, 2^29)
 *   loose     |limb| <= 2^29.9
 * Products of (loose, loose) stay below 2^63: nine of 2^59.8 are 2^62.97, and
 * the carries and folds add less than 2^45.
 *
 * No branch and no address depends on a limb.
 */
#ifndef BRINE_FIELD25519_H
#define BRINE_FIELD25519_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "key.h"

enum field25519_size {
	FIELD25519_LIMBS = 9,
	FIELD25519_BITS = 29,
	FIELD25519_TOP_BITS = 255 - 8 * 29, /* of limb 8 in canonical form */
	FIELD25519_FOLD = 64 * 19, /* 2^261 mod p */
};

#define FIELD25519_MASK ((1LL << FIELD25519_BITS) - 1)
#define FIELD25519_TOP_MASK ((1LL << FIELD25519_TOP_BITS) - 1)

/* Limb i of 64 p = 2^261 - 1216, to be taken off sums to centre them. */
#define FIELD25519_CENTRE(i) \
	((i) ? FIELD25519_MASK : FIELD25519_MASK + 1 - FIELD25519_FOLD)

struct field25519 {
	__s64 limb[FIELD25519_LIMBS]; /* sum of limb[i] * 2^(29 i) */
};

static __always_inline void field25519_copy(struct field25519 *to,
					    const struct field25519 *from)
{
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < FIELD25519_LIMBS; i++)
		to->limb[i] = from->limb[i];
}

static __always_inline void field25519_set(struct field25519 *to, __u32 value)
{
	int i;

	to->limb[0] = value;
#pragma clang loop unroll(full)
	for (i = 1; i < FIELD25519_LIMBS; i++)
		to->limb[i] = 0;
}

/* What left limb 8, |carry| <= 2^34, comes back 1216-fold: limb 0 is masked again,
 * and what it cannot hold, below 2^15.3, goes to limb 1. */
static __always_inline void field25519_wrap(struct field25519 *out, __s64 carry)
{
	__s64 low = out->limb[0] + FIELD25519_FOLD * carry;

	out->limb[0] = low & FIELD25519_MASK;
	out->limb[1] += low >> FIELD25519_BITS;
}

/* out = a * b; a and b loose, out reduced and neither a nor b.
 *
 * Column k of the result takes column k of the product and 1216 times the 29
 * lowest bits of column k + 9, whose carry went up before: one pass. The barrier
 * keeps LLVM from holding all eighteen limbs at once, that is, on the stack. */
static __always_inline void
field25519_multiply_inline(struct field25519 *out, const struct field25519 *a,
			   const struct field25519 *b)
{
	__s64 low = 0, high = 0;
	int i, k;

#pragma clang loop unroll(full)
	for (k = 0; k < FIELD25519_LIMBS; k++) {
		barrier();
#pragma clang loop unroll(full)
		for (i = k + 1; i < FIELD25519_LIMBS; i++)
			high += a->limb[i] * b->limb[k + FIELD25519_LIMBS - i];
		if (k < FIELD25519_LIMBS - 1) {
			low += (high & FIELD25519_MASK) * FIELD25519_FOLD;
			high >>= FIELD25519_BITS;
		} else {
			low += high * FIELD25519_FOLD; /* only a carry, <= 2^34 */
		}
#pragma clang loop unroll(full)
		for (i = 0; i <= k; i++)
			low += a->limb[i] * b->limb[k - i];
		out->limb[k] = low & FIELD25519_MASK;
		low >>= FIELD25519_BITS;
	}
	field25519_wrap(out, low);
}

/* Column `column` of a * a: each product of two different limbs once, doubled. */
static __always_inline __s64 field25519_square_column(const struct field25519 *a,
						      int column)
{
	__s64 sum = 0;
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < FIELD25519_LIMBS; i++)
		if (i < column - i && column - i < FIELD25519_LIMBS)
			sum += a->limb[i] * a->limb[column - i];
	sum += sum;
	if (column % 2 == 0 && column / 2 < FIELD25519_LIMBS)
		sum += a->limb[column / 2] * a->limb[column / 2];
	return sum;
}

/* out = a * a; a loose, out reduced and not a. As field25519_multiply. */
static __always_inline void
field25519_square_inline(struct field25519 *out, const struct field25519 *a)
{
	__s64 low = 0, high = 0;
	int k;

#pragma clang loop unroll(full)
	for (k = 0; k < FIELD25519_LIMBS; k++) {
		barrier();
		high += field25519_square_column(a, k + FIELD25519_LIMBS);
		if (k < FIELD25519_LIMBS - 1) {
			low += (high & FIELD25519_MASK) * FIELD25519_FOLD;
			high >>= FIELD25519_BITS;
		} else {
			low += high * FIELD25519_FOLD;
		}
		low += field25519_square_column(a, k);
		out->limb[k] = low & FIELD25519_MASK;
		low >>= FIELD25519_BITS;
	}
	field25519_wrap(out, low);
}

/* sum = a + b - 64 p, difference = a - b; a and b reduced. Both are below
 * 2^29 + 2^18 in magnitude, hence loose. */
static __always_inline void
field25519_sum_difference(struct field25519 *sum, struct field25519 *difference,
			  const struct field25519 *a, const struct field25519 *b)
{
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < FIELD25519_LIMBS; i++) {
		__s64 x = a->limb[i], y = b->limb[i];

		sum->limb[i] = x + y - FIELD25519_CENTRE(i);
		difference->limb[i] = x - y;
		barrier();
	}
}

/* difference = a - b (loose), out = a + 121665 (a - b) (reduced); a and b reduced.
 * 121665 = (486662 - 2) / 4 is the curve's. Limbs before the carry: below 2^46. */
static __always_inline void field25519_curve(struct field25519 *difference,
					     struct field25519 *out,
					     const struct field25519 *a,
					     const struct field25519 *b)
{
	__s64 carry = 0;
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < FIELD25519_LIMBS; i++) {
		__s64 x = a->limb[i], y = x - b->limb[i];

		difference->limb[i] = y;
		carry += x + 121665 * y;
		out->limb[i] = carry & FIELD25519_MASK;
		carry >>= FIELD25519_BITS;
		barrier();
	}
	field25519_wrap(out, carry);
}

/* Bit 255 is ignored (RFC 7748, section 5); values from p to 2^255 - 1 are taken
 * as they are. Reduced. */
static __always_inline void field25519_load(struct field25519 *out,
					    const struct key_words *from)
{
	const __u64 *w = from->word;

	out->limb[0] = w[0] & FIELD25519_MASK;
	out->limb[1] = w[0] >> 29 & FIELD25519_MASK;
	out->limb[2] = (w[0] >> 58 | w[1] << 6) & FIELD25519_MASK;
	out->limb[3] = w[1] >> 23 & FIELD25519_MASK;
	out->limb[4] = (w[1] >> 52 | w[2] << 12) & FIELD25519_MASK;
	out->limb[5] = w[2] >> 17 & FIELD25519_MASK;
	out->limb[6] = (w[2] >> 46 | w[3] << 18) & FIELD25519_MASK;
	out->limb[7] = w[3] >> 11 & FIELD25519_MASK;
	out->limb[8] = w[3] >> 40 & FIELD25519_TOP_MASK;
}

/* Carry upwards; what lies from 2^255 on is returned. */
static __always_inline __s64 field25519_carry(__s64 t[FIELD25519_LIMBS])
{
	__s64 top;
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < FIELD25519_LIMBS - 1; i++) {
		t[i + 1] += t[i] >> FIELD25519_BITS;
		t[i] &= FIELD25519_MASK;
	}
	top = t[FIELD25519_LIMBS - 1] >> FIELD25519_TOP_BITS;
	t[FIELD25519_LIMBS - 1] &= FIELD25519_TOP_MASK;
	return top;
}

/* The canonical form, in [0, p), of a reduced element.
 *
 * The first carry leaves top in [-1, 2^6], so the value is then in [-19, 2^255 +
 * 19 * 2^6]. A second top of 1 thus leaves less than 19 * 2^6 and one of -1 at
 * least 2^255 - 19: 19 * top fits into limb 0, and 0 <= t < 2^255. Now t >= p
 * exactly if t + 19 reaches 2^255; then t - p is t + 19 without bit 255. */
static __always_inline void field25519_store(struct key_words *to,
					     const struct field25519 *from)
{
	__s64 t[FIELD25519_LIMBS], carry;
	__u64 w[FIELD25519_LIMBS];
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < FIELD25519_LIMBS; i++)
		t[i] = from->limb[i];
	t[0] += 19 * field25519_carry(t);
	t[0] += 19 * field25519_carry(t);

	carry = t[0] + 19;
#pragma clang loop unroll(full)
	for (i = 1; i < FIELD25519_LIMBS; i++)
		carry = t[i] + (carry >> FIELD25519_BITS);
	t[0] += 19 * (carry >> FIELD25519_TOP_BITS);
	field25519_carry(t);

#pragma clang loop unroll(full)
	for (i = 0; i < FIELD25519_LIMBS; i++)
		w[i] = t[i];
	to->word[0] = w[0] | w[1] << 29 | w[2] << 58;
	to->word[1] = w[2] >> 6 | w[3] << 23 | w[4] << 52;
	to->word[2] = w[4] >> 12 | w[5] << 17 | w[6] << 46;
	to->word[3] = w[6] >> 18 | w[7] << 11 | w[8] << 40;
}

/* The two as functions, for what calls them rarely: the verifier checks them
 * once, and they are not copied to every caller. */
__noinline int field25519_multiply(struct field25519 *out,
				   const struct field25519 *a,
				   const struct field25519 *b)
{
	if (!out || !a || !b)
		return -1;
	field25519_multiply_inline(out, a, b);
	return 0;
}

__noinline int field25519_square(struct field25519 *out,
				 const struct field25519 *a)
{
	if (!out || !a)
		return -1;
	field25519_square_inline(out, a);
	return 0;
}

#endif
