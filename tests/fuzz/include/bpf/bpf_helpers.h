/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What all of bpf/ needs of libbpf's header, for a native build: how maps are
 * declared, and the helpers as functions of ../../kernel.h.
 */
#ifndef BRINE_FUZZ_BPF_HELPERS_H
#define BRINE_FUZZ_BPF_HELPERS_H

#include "../../../native/include/bpf/bpf_helpers.h"

#include <linux/bpf.h>

#define SEC(name)
/* As libbpf has them: the numbers and types are in the types of the members. */
#define __uint(name, value) int (*name)[value]
#define __type(name, value) __typeof__(value) *name

/* A map, as its declaration describes it. */
#define KERNEL_MAP(map)								\
	(const struct kernel_map){						\
		(map), sizeof(*(map)->type) / sizeof(int),			\
		sizeof(*(map)->max_entries) / sizeof(int),			\
		sizeof(*(map)->key), sizeof(*(map)->value),			\
	}

struct kernel_map {
	const void *name;
	__u32 type, entries, key_size, value_size;
};

void *kernel_lookup(struct kernel_map map, const void *key);
long kernel_update(struct kernel_map map, const void *key, const void *value, __u64 flags);
long kernel_delete(struct kernel_map map, const void *key);

#define bpf_map_lookup_elem(map, key) kernel_lookup(KERNEL_MAP(map), key)
#define bpf_map_update_elem(map, key, value, flags) \
	kernel_update(KERNEL_MAP(map), key, value, flags)
#define bpf_map_delete_elem(map, key) kernel_delete(KERNEL_MAP(map), key)

__u64 bpf_ktime_get_boot_ns(void);
__u32 bpf_get_smp_processor_id(void);
long bpf_ringbuf_output(void *ring, void *data, __u64 size, __u64 flags);
long bpf_tail_call(void *ctx, const void *programs, __u32 slot);
long bpf_redirect(__u32 ifindex, __u64 flags);
long bpf_redirect_neigh(__u32 ifindex, void *params, int size, __u64 flags);

__u64 bpf_xdp_get_buff_len(struct xdp_md *ctx);
long bpf_xdp_load_bytes(struct xdp_md *ctx, __u32 offset, void *to, __u32 length);
long bpf_xdp_store_bytes(struct xdp_md *ctx, __u32 offset, void *from, __u32 length);
long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta);
long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta);

long bpf_skb_load_bytes(const void *skb, __u32 offset, void *to, __u32 length);
long bpf_skb_store_bytes(struct __sk_buff *skb, __u32 offset, const void *from,
			 __u32 length, __u64 flags);
long bpf_skb_change_proto(struct __sk_buff *skb, __be16 protocol, __u64 flags);
long bpf_skb_adjust_room(struct __sk_buff *skb, __s32 room, __u32 mode, __u64 flags);

#endif
