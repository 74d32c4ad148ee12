"""What roombridge costs beside the bare LiveKit SDK, measured on this machine: `make bench`."""
