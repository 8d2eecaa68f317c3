"""A deployed stack: waiting until it runs what was asked for, and saying why when it does not."""
