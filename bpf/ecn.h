/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Explicit congestion notification through the tunnel, RFC 6040 normal mode:
 * the outer header takes the inner codepoint; on the way out they combine by
 * the table of section 4.2.
 */
#ifndef BRINE_ECN_H
#define BRINE_ECN_H

#include <linux/types.h>

enum ecn {
	ECN_NOT_ECT = 0,
	ECN_ECT1 = 1,
	ECN_ECT0 = 2,
	ECN_CE = 3,
	ECN_MASK = 3,
};

/* The inner codepoint to deliver, or -1: drop. */
static __always_inline int ecn_decapsulate(__u8 inner, __u8 outer)
{
	inner &= ECN_MASK;
	outer &= ECN_MASK;
	if (inner == ECN_NOT_ECT)
		return outer == ECN_CE ? -1 : ECN_NOT_ECT;
	if (outer == ECN_CE)
		return ECN_CE;
	if (inner == ECN_ECT0 && outer == ECN_ECT1)
		return ECN_ECT1;
	return inner;
}

#endif
