"""What a cold start is compared with."""
