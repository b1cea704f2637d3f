# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: what runs where is said by each directory."""
