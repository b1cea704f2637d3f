# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared: one module a tunnel, all with the same interface."""
