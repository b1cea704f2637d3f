# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of simulated hosts, for whole plays at sizes that no machine could boot.

Real: `ansible-playbook` with the roles, action plugins, inventory and public-key store; and on a
host the code of every module, in a root directory of the host's own (root.py, module.py), and of
`brine` as far as it needs no kernel. A stand-in answers for the commands that modules run
(commands.py), for the maps and devices (kernel.py), and for ssh (connection/). What it does not
know is an error. Modules run in forks of one warm process (server.py).

docs/scale.md says what that leaves out of a measurement.
"""
