/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For bench/rig.py alone: a wire. Whatever arrives at one of two devices leaves by the other,
 * whose index differs in the last bit. As frames of the MTU: neither a super-packet nor a
 * socket's claim to a packet passes, no more than on a cable.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int wire(struct xdp_md *ctx)
{
	return bpf_redirect(ctx->ingress_ifindex ^ 1, 0);
}

char LICENSE[] SEC("license") = "GPL";
