/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What a model is told when it runs, not when it is built: one build then serves
 * its sound form and all its broken variants. test_spin.py sets the environment.
 */
c_decl {
	static int setting(const char *name, int otherwise)
	{
		const char *text = getenv(name);

		return text ? atoi(text) : otherwise;
	}
}
