"""Locks: every artefact of the channel, every environment and every image's packages, exactly."""
