# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mesh of N hosts costs, on the controller and on a host: docs/scale.md.

python -m tests.scale controller 100 300 1000 10000
python -m tests.scale host 100 1000 10000
python -m tests.scale site 100 300 1000
python -m tests.scale inventory 1000 DIRECTORY
"""
