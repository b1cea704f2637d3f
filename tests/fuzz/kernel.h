/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The kernel's side of the programs, for a native build: maps, clock, ring buffer.
 * Every value is an allocation of its own, so that the address sanitizer sees what
 * goes a byte too far.
 */
#ifndef BRINE_FUZZ_KERNEL_H
#define BRINE_FUZZ_KERNEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* A property that must hold; libFuzzer keeps the input that breaks it. */
#define MUST(condition) do {							\
	if (!(condition)) {							\
		fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
		abort();							\
	}									\
} while (0)

struct kernel_item {
	struct kernel_item *next;
	const void *map;
	__u8 *key, *value;
};

static struct kernel_item *kernel_items[4096];
#define KERNEL_START (1ULL << 50) /* ns */

static __u64 kernel_now = KERNEL_START;
static __u32 kernel_cpu;
static __u32 kernel_events; /* records since the last kernel_reset() */
static __u32 kernel_redirected; /* interface */

static int kernel_is_array(const struct kernel_map *map)
{
	return map->type == BPF_MAP_TYPE_ARRAY || map->type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static struct kernel_item **kernel_bucket(const struct kernel_map *map, const void *key)
{
	__u64 hash = (unsigned long)map->name;
	__u32 i;

	for (i = 0; map->type != BPF_MAP_TYPE_LPM_TRIE && i < map->key_size; i++)
		hash = (hash ^ ((const __u8 *)key)[i]) * 0x100000001b3ULL;
	return &kernel_items[(hash ^ hash >> 29) % (sizeof(kernel_items) / sizeof(void *))];
}

static struct kernel_item *kernel_find(const struct kernel_map *map, const void *key)
{
	struct kernel_item *item = *kernel_bucket(map, key);

	for (; item; item = item->next)
		if (item->map == map->name && !memcmp(item->key, key, map->key_size))
			return item;
	return NULL;
}

static void *kernel_insert(const struct kernel_map *map, const void *key)
{
	struct kernel_item **bucket = kernel_bucket(map, key);
	struct kernel_item *item = calloc(1, sizeof(*item));

	item->map = map->name;
	item->key = malloc(map->key_size);
	memcpy(item->key, key, map->key_size);
	item->value = calloc(1, map->value_size);
	item->next = *bucket;
	*bucket = item;
	return item->value;
}

/* Longest prefix: { u32 length, bytes }. */
static void *kernel_longest(const struct kernel_map *map, const __u8 *key)
{
	struct kernel_item *item = *kernel_bucket(map, key);
	__u32 longest = 0, length, bit;
	void *found = NULL;

	for (; item; item = item->next) {
		if (item->map != map->name)
			continue;
		memcpy(&length, item->key, sizeof(length));
		for (bit = 0; bit < length; bit++)
			if ((item->key[4 + bit / 8] ^ key[4 + bit / 8]) >> (7 - bit % 8) & 1)
				break;
		if (bit == length && (!found || length > longest)) {
			longest = length;
			found = item->value;
		}
	}
	return found;
}

void *kernel_lookup(struct kernel_map map, const void *key)
{
	struct kernel_item *item;
	__u32 number;

	if (map.type == BPF_MAP_TYPE_LPM_TRIE)
		return kernel_longest(&map, key);
	item = kernel_find(&map, key);
	if (item)
		return item->value;
	if (!kernel_is_array(&map))
		return NULL;
	memcpy(&number, key, sizeof(number));
	return number < map.entries ? kernel_insert(&map, key) : NULL;
}

long kernel_update(struct kernel_map map, const void *key, const void *value, __u64 flags)
{
	struct kernel_item *item = kernel_find(&map, key);

	if (item && flags == BPF_NOEXIST)
		return -17; /* EEXIST */
	memcpy(item ? item->value : kernel_insert(&map, key), value, map.value_size);
	return 0;
}

long kernel_delete(struct kernel_map map, const void *key)
{
	struct kernel_item **link = kernel_bucket(&map, key), *item = kernel_find(&map, key);

	if (!item)
		return -2; /* ENOENT */
	while (*link != item)
		link = &(*link)->next;
	*link = item->next;
	free(item->key);
	free(item->value);
	free(item);
	return 0;
}

/* Every map as it is at load. */
static void kernel_reset(void)
{
	struct kernel_item *item;
	__u32 i;

	for (i = 0; i < sizeof(kernel_items) / sizeof(kernel_items[0]); i++) {
		while ((item = kernel_items[i])) {
			kernel_items[i] = item->next;
			free(item->key);
			free(item->value);
			free(item);
		}
	}
	kernel_now = KERNEL_START;
	kernel_cpu = 0;
	kernel_events = 0;
}

__u64 bpf_ktime_get_boot_ns(void)
{
	return kernel_now;
}

__u32 bpf_get_smp_processor_id(void)
{
	return kernel_cpu;
}

long bpf_ringbuf_output(void *ring, void *data, __u64 size, __u64 flags)
{
	void *copy = malloc(size); /* the sanitizer checks that all of it may be read */

	(void)ring;
	(void)flags;
	memcpy(copy, data, size);
	free(copy);
	kernel_events++;
	return 0;
}

/* Of an empty slot: the caller goes on. */
long bpf_tail_call(void *ctx, const void *programs, __u32 slot)
{
	(void)ctx;
	(void)programs;
	(void)slot;
	return -2; /* ENOENT */
}

long bpf_redirect(__u32 ifindex, __u64 flags)
{
	(void)flags;
	kernel_redirected = ifindex;
	return XDP_REDIRECT;
}

long bpf_redirect_neigh(__u32 ifindex, void *params, int size, __u64 flags)
{
	(void)params;
	(void)size;
	(void)flags;
	kernel_redirected = ifindex;
	return 7; /* TC_ACT_REDIRECT */
}

#endif
