/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the primitives under bpf/ need of libbpf's header, for a native build: the
 * same C, so that tools which know no BPF can look at it.
 */
#ifndef BRINE_NATIVE_BPF_HELPERS_H
#define BRINE_NATIVE_BPF_HELPERS_H

#include <linux/types.h>

#undef __noinline
#undef __always_inline /* glibc has its own */
#define __noinline __attribute__((noinline))
#define __always_inline inline __attribute__((always_inline))
#define barrier() __asm__ volatile("" ::: "memory")
#define barrier_var(var) __asm__ volatile("" : "=r"(var) : "0"(var))

/* The callbacks differ in the type of their second argument only, a pointer. */
#define bpf_loop(count, callback, context, flags) do {			\
	__u64 loop_index;						\
	for (loop_index = 0; loop_index < (count); loop_index++)	\
		if (callback(loop_index, context))			\
			break;						\
} while (0)

/* Instead of bpf/salsa20_scheduled.h, which is BPF assembly: the steps that
 * salsa20_start of bpf/salsa20.h leaves, in C. */
#define BRINE_SALSA20_SCHEDULED_H
static __always_inline void native_step(__u32 *to, __u32 a, __u32 b, int n)
{
	__u32 sum = a + b;

	*to ^= sum << n | sum >> (32 - n);
}

static __always_inline void native_quarter(__u32 *x, int a, int b, int c, int d,
					   int done)
{
	if (done < 1)
		native_step(&x[b], x[a], x[d], 7);
	native_step(&x[c], x[b], x[a], 9);
	native_step(&x[d], x[c], x[b], 13);
	native_step(&x[a], x[d], x[c], 18);
}

static __always_inline void salsa20_rounds_scheduled(__u32 x[17])
{
	int round;

	native_step(&x[12], x[8], x[16], 13);
	native_step(&x[0], x[12], x[8], 18);
	native_quarter(x, 0, 1, 2, 3, 0);
	native_quarter(x, 10, 11, 8, 9, 1);
	native_quarter(x, 15, 12, 13, 14, 0);
	for (round = 0; round < 9; round++) {
		native_quarter(x, 0, 4, 8, 12, 0);
		native_quarter(x, 5, 9, 13, 1, 0);
		native_quarter(x, 10, 14, 2, 6, 0);
		native_quarter(x, 15, 3, 7, 11, 0);
		native_quarter(x, 0, 1, 2, 3, 0);
		native_quarter(x, 5, 6, 7, 4, 0);
		native_quarter(x, 10, 11, 8, 9, 0);
		native_quarter(x, 15, 12, 13, 14, 0);
	}
}

#endif
