# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the library and the modules, without a loaded BPF object."""
