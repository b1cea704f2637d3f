/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Thirty-two bytes that are a key, as the primitives read them, and what one does
 * with secrets: overwrite them, compare them. A key in a map or a packet's copy is
 * cast to key_words, from an address that is a multiple of eight.
 */
#ifndef BRINE_KEY_H
#define BRINE_KEY_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

enum key_words_size {
	KEY_WORDS = 4,
};

struct key_words {
	__u64 word[KEY_WORDS]; /* little-endian */
};

/* `bytes` is a constant, a multiple of eight. The barrier keeps LLVM from making
 * a call of memset of it, which BPF has not, or nothing. */
static __always_inline void overwrite(void *area, __u32 bytes)
{
	__u64 *word = area;
	__u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < bytes / sizeof(*word); i++) {
		word[i] = 0;
		barrier();
	}
}

/* 1 if any bit of `difference` is set, else 0. Without the barriers LLVM sees a
 * condition in it: then it branches, and where the difference is an or of several
 * words it compares them one by one and stops at the first. */
static __always_inline __u64 any_bit(__u64 difference)
{
	__u64 negative;

	barrier_var(difference);
	negative = 0 - difference;
	barrier_var(negative);
	difference = (difference | negative) >> 63;
	barrier_var(difference);
	return difference;
}

#endif
