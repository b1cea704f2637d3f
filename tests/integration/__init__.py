# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts in network namespaces: the real data path, real daemons, real packets. Root only."""
