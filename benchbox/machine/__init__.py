"""What benchbox runs on: the clock, the kernel, its children, and what hurts measurements."""
