"""Which version this is: of both daemons, of both command lines, and of the package.

Pure. Said here and read by pyproject.toml: asking for the metadata of the installed package costs 2.5 MiB.
"""

VERSION = "0.1.0"
