"""The rules of the service, without network, disk, clock or framework."""
