/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * For primitives.py: call a function again and again, so that neither Python nor
 * its foreign calls are in the figure. Every function measured takes up to six
 * integers or pointers, which are passed alike on x86_64 and aarch64.
 */
#include <stdint.h>

typedef int function(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

/* The last call's result. */
int repeat_call(function *call, uint64_t repeat, const uint64_t a[6])
{
	int result = 0;
	uint64_t i;

	for (i = 0; i < repeat; i++)
		result = call(a[0], a[1], a[2], a[3], a[4], a[5]);
	return result;
}
