/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Functions that leak, each in one way, and two that do not: what
 * test_constant_time.py must find, and must not.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct leaky {
	__u64 secret[4];
	__u64 length; /* public */
	__u64 out[4];
};

struct leaky_loop { /* both public */
	struct leaky *work;
	__u64 first;
};

__noinline int clean_select(struct leaky *work)
{
	__u64 mask;

	if (!work)
		return -1;
	mask = 0 - (work->secret[0] & 1);
	barrier_var(mask);
	work->out[0] = work->secret[1] ^ ((work->secret[1] ^ work->secret[2]) & mask);
	return 0;
}

__noinline int clean_index(struct leaky *work)
{
	if (!work)
		return -1;
	work->out[0] = work->secret[work->length & 3];
	return 0;
}

/* What LLVM makes of a select: BPF has none. */
__noinline int leaky_select(struct leaky *work)
{
	if (!work)
		return -1;
	work->out[0] = work->secret[0] & 1 ? work->secret[1] : work->secret[2];
	return 0;
}

__noinline int leaky_branch(struct leaky *work)
{
	if (!work)
		return -1;
	if (work->secret[0] > work->secret[1])
		work->out[0] = 1;
	return 0;
}

__noinline int leaky_load(struct leaky *work)
{
	if (!work)
		return -1;
	work->out[0] = work->out[work->secret[0] & 3];
	return 0;
}

__noinline int leaky_store(struct leaky *work)
{
	if (!work)
		return -1;
	work->out[work->secret[0] >> 62] = 1;
	return 0;
}

/* Through memory: what is stored to an area comes back secret. */
__noinline int leaky_memory(struct leaky *work)
{
	if (!work)
		return -1;
	work->out[0] = work->secret[0] * 3;
	barrier();
	if (work->out[0] == 9)
		work->out[1] = 1;
	return 0;
}

/* Through the stack, a byte of it. */
__noinline int leaky_stack(struct leaky *work)
{
	volatile __u64 kept;

	if (!work)
		return -1;
	kept = work->secret[0];
	if (((volatile __u8 *)&kept)[3] == 7)
		work->out[0] = 1;
	return 0;
}

__noinline int leaky_divide(struct leaky *work)
{
	if (!work)
		return -1;
	work->out[0] = work->secret[0] / 10;
	return 0;
}

__noinline int leaky_field(struct leaky *work)
{
	if (!work)
		return -1;
	work->length = work->secret[0];
	return 0;
}

__noinline int leaky_result(struct leaky *work)
{
	if (!work)
		return -1;
	return (int)work->secret[0];
}

__noinline int public_length(struct leaky *work, __u32 length)
{
	if (!work)
		return -1;
	work->out[0] = length > 7 ? 1 : 2;
	return 0;
}

__noinline int leaky_argument(struct leaky *work)
{
	if (!work)
		return -1;
	return public_length(work, work->secret[0]);
}

static long leaky_callback(__u64 index, struct leaky_loop *loop)
{
	if (index + loop->first == 3)
		loop->work->out[0] = 1;
	return 0;
}

__noinline int leaky_loop_count(struct leaky *work)
{
	struct leaky_loop loop = { .work = work };

	if (!work)
		return -1;
	bpf_loop(work->secret[0], leaky_callback, &loop, 0);
	return 0;
}

__noinline int leaky_loop_context(struct leaky *work)
{
	struct leaky_loop loop = { .work = work };

	if (!work)
		return -1;
	loop.first = work->secret[0];
	bpf_loop(4, leaky_callback, &loop, 0);
	return 0;
}

__noinline int leaky_helper(struct leaky *work)
{
	if (!work)
		return -1;
	work->out[0] = bpf_ktime_get_ns();
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
