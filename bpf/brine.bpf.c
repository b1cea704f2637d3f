/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The one object. Each header holds one concern; docs/architecture.md draws
 * how they call each other.
 */
#include "maps.h"
#include "seal.h"
#include "open.h"
#include "control_program.h"
#include "selftest.h"
#include "selftest_replay.h"
#include "selftest_derive.h"
#include "selftest_bench.h"

char LICENSE[] SEC("license") = "GPL";
