"""The prepared stores: crops of persons and whole validation pictures in memory-mapped Arrow files."""
