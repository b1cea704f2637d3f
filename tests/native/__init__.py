# SPDX-License-Identifier: GPL-3.0-or-later
"""The primitives of bpf/ built for this processor, for tools that know no BPF."""
