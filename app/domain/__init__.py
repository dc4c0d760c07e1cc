"""What is true without network, disk, clock or framework."""
