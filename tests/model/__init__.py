# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of the protocol in Promela, and the test that has SPIN check them."""
