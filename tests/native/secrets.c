/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Runs the primitives on secrets that valgrind takes for uninitialised memory: it
 * then complains of every branch and address that depends on one (the method is
 * Langley's ctgrind, 2010). What a function is allowed to tell is made known again
 * before anyone looks at it. Usage: secrets PRIMITIVE
 */
#include <stdio.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "x25519.h"

static int tell(int result)
{
	(void)VALGRIND_MAKE_MEM_DEFINED(&result, sizeof(result));
	return result;
}

/* derive_dh, too, looks at what x25519 tells. */
#define x25519(work, private, public) tell(x25519(work, private, public))

#include "derive.h"
#include "secretbox.h"

static struct derive derive;
static struct header_tag tag;
static struct secretbox box;
static struct blake2b hash;
static struct key_words own_private, own_public, peer_public, secret;

static void hide(void *area, unsigned long bytes)
{
	(void)VALGRIND_MAKE_MEM_UNDEFINED(area, bytes);
}

static int run_x25519(void)
{
	return x25519(&derive.x25519, &own_private, &peer_public);
}

static int run_derive(void)
{
	int result = tell(derive_dh(&derive, &own_private, &own_public, &peer_public));

	if (!result)
		result = tell(derive_box(&derive, &secret, &own_public, &peer_public, 0x0403));
	derive_wipe(&derive);
	return result;
}

static int run_header_tag(void)
{
	return tell(header_tag(&tag, &secret));
}

static int run_blake2b(void)
{
	hide(hash.block, sizeof(hash.block));
	blake2b_start(&hash, 64, 32);
	blake2b_block(&hash, 128, 0);
	return tell(blake2b_block(&hash, 77, 1));
}

static int run_hsalsa20(void)
{
	hide(&derive.hsalsa20, sizeof(derive.hsalsa20));
	return tell(hsalsa20(&derive.hsalsa20));
}

/* Lengths that take every loop and the padded last block. */
static int run_secretbox(void)
{
	static const int lengths[] = { 0, 1, 15, 16, 63, 64, 100, 1420 };
	unsigned int i;
	int result = 0;

	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		hide(box.subkey, sizeof(box.subkey));
		hide(box.text, lengths[i]);
		result |= tell(secretbox_seal(&box, lengths[i]));
		result |= tell(secretbox_verify(&box, lengths[i]));
		result |= tell(secretbox_decrypt(&box, lengths[i]));
	}
	return result;
}

/* Must be complained of. */
static int run_leak(void)
{
	return secret.word[0] & 1 ? 0 : (int)own_public.word[secret.word[1] & 3];
}

static const struct {
	const char *name;
	int (*run)(void);
} primitives[] = {
	{ "x25519", run_x25519 },	{ "derive", run_derive },
	{ "header_tag", run_header_tag }, { "blake2b", run_blake2b },
	{ "hsalsa20", run_hsalsa20 },	{ "secretbox", run_secretbox },
	{ "leak", run_leak },
};

int main(int argc, char **argv)
{
	unsigned int i;

	/* Any values: what matters is where they go. */
	memset(&own_private, 0x11, sizeof(own_private));
	memset(&own_public, 0x22, sizeof(own_public));
	memset(&peer_public, 0x33, sizeof(peer_public));
	memset(&secret, 0x44, sizeof(secret));
	hide(&own_private, sizeof(own_private));
	hide(&secret, sizeof(secret));

	for (i = 0; i < sizeof(primitives) / sizeof(primitives[0]); i++)
		if (argc == 2 && !strcmp(argv[1], primitives[i].name))
			return primitives[i].run() ? 3 : 0;
	fprintf(stderr, "usage: secrets PRIMITIVE\n");
	return 2;
}
