"""Engine processes that generate as other servers do; everything in front of them is the service itself."""
