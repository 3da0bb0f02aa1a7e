"""Server-Sent Events of additions and deletions, shared between workers."""
