"""`make gpu-check`: whether the GPU of this machine gives right numbers, how fast it is, and what bounds it."""
