"""The token service against its peers, behind the same HTTP stack, in one run with the sides in turns."""
