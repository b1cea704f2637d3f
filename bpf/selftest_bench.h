/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One primitive, again and again, on the areas of selftest.h and selftest_derive.h
 * as the caller left them: bench/primitives.py asks how long that takes.
 */
#ifndef BRINE_SELFTEST_BENCH_H
#define BRINE_SELFTEST_BENCH_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "selftest.h"
#include "selftest_derive.h"

enum selftest_bench_operation {
	SELFTEST_BENCH_X25519 = 1, /* own_private, peer_public */
	SELFTEST_BENCH_BLAKE2B = 2, /* 48 bytes of the 109 in its block, under `secret` */
	SELFTEST_BENCH_SEAL = 3, /* `length` bytes in selftest_work */
	SELFTEST_BENCH_OPEN = 4, /* verify and decrypt, whatever the verdict */
};

struct selftest_bench {
	enum selftest_bench_operation operation;
	__u32 length;
	__u32 repeat;
	__u32 done; /* out: how often it ran */
};

struct selftest_bench_loop {
	struct selftest_derive_area *area;
	struct secretbox *secretbox;
	enum selftest_bench_operation operation;
	__u32 length;
};

static long selftest_bench_callback(__u64 number __attribute__((unused)),
				    struct selftest_bench_loop *loop)
{
	struct selftest_derive_area *area = loop->area;
	__u32 length = loop->length;

	switch (loop->operation) {
	case SELFTEST_BENCH_X25519:
		x25519(&area->derive.x25519, &area->own_private, &area->peer_public);
		return 0;
	case SELFTEST_BENCH_BLAKE2B:
		blake2b_start_keyed(&area->blake2b, DERIVE_BOX_BYTES, &area->secret);
		blake2b_block(&area->blake2b, DERIVE_TEXT_BYTES, 1);
		return 0;
	case SELFTEST_BENCH_SEAL:
		secretbox_seal(loop->secretbox, length);
		return 0;
	case SELFTEST_BENCH_OPEN:
		secretbox_verify(loop->secretbox, length);
		secretbox_decrypt(loop->secretbox, length);
		return 0;
	default:
		return 1;
	}
}

SEC("syscall")
int selftest_bench(struct selftest_bench *request)
{
	struct selftest_bench_loop loop = { .area = selftest_derive_area() };
	__u32 zero = 0, repeat = request->repeat;
	long done;

	loop.secretbox = bpf_map_lookup_elem(&selftest_work, &zero);
	if (!loop.area || !loop.secretbox)
		return 1;
	loop.operation = request->operation;
	loop.length = request->length;
	done = bpf_loop(repeat, selftest_bench_callback, &loop, 0);
	request->done = done < 0 ? 0 : done;
	return 0;
}

#endif
