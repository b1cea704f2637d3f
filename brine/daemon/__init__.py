# SPDX-License-Identifier: GPL-3.0-or-later
"""`brined`: makes associations with peers and watches over their life."""
