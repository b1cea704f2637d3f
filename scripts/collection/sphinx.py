# SPDX-License-Identifier: GPL-3.0-or-later
# Goes to the end of the conf.py that antsibull-docs makes.

# No other site is asked, so the labels of Ansible's own are unknown: antsibull-docs writes these.
intersphinx_mapping = {}
nitpick_ignore = [
    ("std:ref", label)
    for label in ("action_plugins", "ansible_configuration_settings", "common_return_values")
]
