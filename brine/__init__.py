# SPDX-License-Identifier: GPL-3.0-or-later
"""brine: encrypts host-to-host traffic inside the kernel, in BPF bytecode."""

__version__ = "1.0.0"
