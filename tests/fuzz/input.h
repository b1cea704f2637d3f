/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the targets read from their input.
 */
#ifndef BRINE_FUZZ_INPUT_H
#define BRINE_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <linux/types.h>

struct input {
	const __u8 *at, *end;
};

static __u64 input_number(struct input *input, int bytes)
{
	__u64 value = 0;

	for (; bytes && input->at < input->end; bytes--)
		value = value << 8 | *input->at++;
	return value;
}

/* Copies up to `length` bytes; returns how many. */
static __u32 input_bytes(struct input *input, __u8 *to, __u32 length)
{
	__u32 left = input->end - input->at;

	if (length > left)
		length = left;
	memcpy(to, input->at, length);
	input->at += length;
	return length;
}

#endif
