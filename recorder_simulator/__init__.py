"""A recorder that is none: for trying drivers, the bay and the dock without one."""
