"""The flow of stages: what each runs, how long it took, what it changed."""
