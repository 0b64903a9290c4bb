"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class UserError(Exception):
    """Bad input: one clear line saying what is wrong, where, and what would be right.

    The command line and the notebook runner print it as it is, without a traceback, and exit with code 2.
    """
