"""What may leave a recorder: only what the archive has a receipt for, and nothing beside it."""
