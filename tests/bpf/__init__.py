# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the BPF object, run by the kernel on the loaded programs."""
