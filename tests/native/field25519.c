/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bpf/field25519.h as a filter, for test_field25519.py: a line "operation numbers"
 * in, a line of numbers out. Built so that a signed overflow ends the program.
 */
#include <stdio.h>

#include "x25519.h"

static int read_limbs(struct field25519 *limbs)
{
	int i;

	for (i = 0; i < FIELD25519_LIMBS; i++)
		if (scanf("%lld", &limbs->limb[i]) != 1)
			return -1;
	return 0;
}

static int read_words(struct key_words *words)
{
	int i;

	for (i = 0; i < KEY_WORDS; i++)
		if (scanf("%llx", &words->word[i]) != 1)
			return -1;
	return 0;
}

static void print_limbs(const struct field25519 *limbs)
{
	int i;

	for (i = 0; i < FIELD25519_LIMBS; i++)
		printf("%lld ", limbs->limb[i]);
}

static void print_words(const struct key_words *words)
{
	int i;

	for (i = 0; i < KEY_WORDS; i++)
		printf("%llx ", words->word[i]);
}

int main(void)
{
	struct field25519 a, b, c, d;
	struct key_words k, u;
	struct x25519 work;
	char operation;

	while (scanf(" %c", &operation) == 1) {
		switch (operation) {
		case 'm': /* a * b */
			if (read_limbs(&a) || read_limbs(&b))
				return 1;
			field25519_multiply(&c, &a, &b);
			print_limbs(&c);
			break;
		case 's': /* a * a */
			if (read_limbs(&a))
				return 1;
			field25519_square(&c, &a);
			print_limbs(&c);
			break;
		case 'd': /* a + b, a - b */
			if (read_limbs(&a) || read_limbs(&b))
				return 1;
			field25519_sum_difference(&c, &d, &a, &b);
			print_limbs(&c);
			print_limbs(&d);
			break;
		case 'c': /* a - b, a + 121665 (a - b) */
			if (read_limbs(&a) || read_limbs(&b))
				return 1;
			field25519_curve(&c, &d, &a, &b);
			print_limbs(&c);
			print_limbs(&d);
			break;
		case 'l': /* 32 bytes to limbs */
			if (read_words(&k))
				return 1;
			field25519_load(&c, &k);
			print_limbs(&c);
			break;
		case 'w': /* limbs to 32 bytes */
			if (read_limbs(&a))
				return 1;
			field25519_store(&k, &a);
			print_words(&k);
			break;
		case 'p': /* one step of the ladder */
			if (read_limbs(&work.scratch.x1) || read_limbs(&work.scratch.x2) ||
			    read_limbs(&work.scratch.z2) || read_limbs(&work.scratch.x3) ||
			    read_limbs(&work.scratch.z3) ||
			    scanf("%llx", &work.scratch.choose) != 1)
				return 1;
			x25519_step(&work.scratch);
			print_limbs(&work.scratch.x2);
			print_limbs(&work.scratch.z2);
			print_limbs(&work.scratch.x3);
			print_limbs(&work.scratch.z3);
			break;
		case 'x': /* the whole */
			if (read_words(&k) || read_words(&u))
				return 1;
			printf("%d ", x25519(&work, &k, &u));
			print_words(&work.shared);
			break;
		default:
			return 1;
		}
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
