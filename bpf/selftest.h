/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Programs that run one primitive on given bytes, for tests and for
 * `brine doctor`: the very bytecode of the data path, JIT-compiled on the host
 * that asks. The loader leaves them out unless asked.
 */
#ifndef BRINE_SELFTEST_H
#define BRINE_SELFTEST_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "secretbox.h"

enum selftest_operation {
	SELFTEST_SEAL = 1,
	SELFTEST_OPEN = 2, /* verify, then decrypt; result -1 if forged */
	SELFTEST_MAC = 3, /* Poly1305 of text under mac_key */
};

struct selftest_secretbox {
	enum selftest_operation operation;
	__u32 length;
	__s32 result;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct secretbox);
} selftest_work SEC(".maps");

/* In and out: the work area in `selftest_work`. */
SEC("syscall")
int selftest_secretbox(struct selftest_secretbox *request)
{
	struct secretbox_loop loop = {};
	struct secretbox *work;
	__u32 zero = 0, length = request->length;

	work = bpf_map_lookup_elem(&selftest_work, &zero);
	if (!work || length > SECRETBOX_TEXT_MAX)
		return 1;
	switch (request->operation) {
	case SELFTEST_SEAL:
		request->result = secretbox_seal(work, length);
		return 0;
	case SELFTEST_OPEN:
		request->result = secretbox_verify(work, length);
		if (!request->result)
			request->result = secretbox_decrypt(work, length);
		return 0;
	case SELFTEST_MAC:
		loop.work = work;
		secretbox_mac(&loop, length, work->tag);
		request->result = 0;
		return 0;
	default:
		return 1;
	}
}

SEC("syscall")
int selftest_hsalsa20(struct hsalsa20 *request)
{
	struct hsalsa20 work = *request;

	hsalsa20(&work);
	*request = work;
	return 0;
}

#endif
