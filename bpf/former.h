/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two objects at work at once, while maps of another layout take the place of
 * these or have just done so. No association goes from one to the other. The
 * newer programs are attached; what they have no association for they hand to the
 * former ones, which have their own maps:
 *
 *	open	an index that the newer maps lack	-> the former `open`
 *	seal	a peer without an association there	-> the former `seal`
 *	former seal	no box, no route		-> the newer `punt`
 *
 * `punt` alone reaches a daemon: that of the former maps is gone. So nothing need
 * be known here of who has an association where, and a key of the former's that
 * ends at any moment has the next packet held and exchanged for, as ever.
 *
 * User space (brine/former.py) fills the slots before it attaches, and empties
 * them once nothing is left in the former maps. An empty one falls through: to the
 * drop, or the punt, that there would have been anyway. Of three objects, after an
 * upgrade taken back, each hands on to the one before it, and `punt` to the next.
 * An array takes programs of one type only: hence three.
 */
#ifndef BRINE_FORMER_H
#define BRINE_FORMER_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} former_open SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} former_seal SEC(".maps");

/* Of the object that took the place of this one: its `punt`. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} successor SEC(".maps");

#endif
