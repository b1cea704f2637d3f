# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures brine beside the tunnels a user could pick instead: `make bench`."""
