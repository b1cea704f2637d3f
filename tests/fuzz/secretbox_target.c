/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bpf/secretbox.h against libsodium. Input: key 32, nonce 24, a byte to change and
 * how, then the text.
 */
#include <sodium.h>

#include "input.h"
#include "kernel.h"
#include "secretbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, data + size };
	struct secretbox *work = calloc(1, sizeof(*work));
	__u8 key[32] = {}, nonce[24] = {}, tag[16];
	static __u8 text[SECRETBOX_TEXT_MAX], sealed[SECRETBOX_TEXT_MAX];
	__u32 place, flip, length;

	input_bytes(&input, key, sizeof(key));
	input_bytes(&input, nonce, sizeof(nonce));
	place = input_number(&input, 2);
	flip = input_number(&input, 1);
	/* Longer ones than libFuzzer makes: the text repeats. */
	length = input_number(&input, 2) % (SECRETBOX_TEXT_MAX + 1);
	size = input_bytes(&input, text, length);
	for (; size && size < length; size++)
		text[size] = text[size / 2] + size;
	if (!size)
		memset(text, 0, length);

	MUST(!crypto_core_hsalsa20((__u8 *)work->subkey, nonce, key, NULL));
	memcpy(&work->nonce, nonce + 16, 8);
	memset(work->text, 0xa5, sizeof(work->text));
	memcpy(work->text, text, length);
	MUST(!secretbox_seal(work, length));
	MUST(!crypto_secretbox_detached(sealed, tag, text, length, nonce, key));
	MUST(!memcmp(work->text, sealed, length));
	MUST(!memcmp(work->tag, tag, sizeof(tag)));

	if (flip) {
		__u8 *changed = place % (length + 16) < 16 ?
			(__u8 *)work->tag + place % (length + 16) :
			work->text + place % (length + 16) - 16;

		*changed ^= flip;
		MUST(secretbox_verify(work, length) == -1);
		*changed ^= flip;
	}
	MUST(!secretbox_verify(work, length));
	MUST(!memcmp(work->text, sealed, length));
	MUST(!secretbox_decrypt(work, length));
	MUST(!memcmp(work->text, text, length));

	MUST(secretbox_seal(work, SECRETBOX_TEXT_MAX + 1) == -1);
	MUST(secretbox_verify(work, SECRETBOX_TEXT_MAX + 1) == -1);
	secretbox_forget(work);
	for (size = 0; size < sizeof(work->subkey); size++)
		MUST(!((__u8 *)work->subkey)[size]);
	free(work);
	return 0;
}
