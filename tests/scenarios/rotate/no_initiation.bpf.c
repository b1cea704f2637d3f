/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Drops what begins an exchange on its way out of a lab host (clsact egress), and
 * nothing else: test_rotate.py. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define INITIATION 42 /* of its first byte: Ethernet, IPv4 without options, UDP */

SEC("tc")
int no_initiation(struct __sk_buff *skb)
{
	__u8 start[4], protocol;

	if (bpf_skb_load_bytes(skb, 23, &protocol, 1) || protocol != 17 ||
	    bpf_skb_load_bytes(skb, INITIATION, start, 4))
		return TC_ACT_OK;
	return start[0] == 1 && !start[1] && !start[2] && !start[3] ? TC_ACT_SHOT : TC_ACT_OK;
}

char _license[] SEC("license") = "GPL";
