/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * For bench/profile.py alone: `seal` without Poly1305, XSalsa20 as it is. `open` is left as it
 * is, and so opens nothing that this `seal` has sealed. The release is built from
 * bpf/brine.bpf.c, which knows nothing of this file.
 */
#include "maps.h"
#include "secretbox.h"

/* secretbox_seal without its last step. */
__noinline int encrypt(struct secretbox *work, __u32 length)
{
	struct secretbox_loop loop = { .work = work };

	if (!work || length > SECRETBOX_TEXT_MAX)
		return -1;
	salsa20_start(&work->start, work->subkey, work->nonce);
	secretbox_clear_mac_key(work);
	bpf_loop((32 + length + SALSA20_BLOCK - 1) / SALSA20_BLOCK, secretbox_xor_callback,
		 &loop, 0);
	return 0;
}

#define secretbox_seal encrypt
#include "seal.h"
#undef secretbox_seal
#include "open.h"
#include "control_program.h"

char LICENSE[] SEC("license") = "GPL";
