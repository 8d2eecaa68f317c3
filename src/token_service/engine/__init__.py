"""The engine process: one model, all its sequences, one forward pass after another."""
