"""The private conda channel: fetch from upstream, convert deterministically to `.conda`, verify, index."""
