"""A real kernel and real USB in QEMU: `make test-hardware`. Not collected by `make test`."""
