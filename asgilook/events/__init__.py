"""Server-Sent Events: additions and deletions, shared between workers."""
