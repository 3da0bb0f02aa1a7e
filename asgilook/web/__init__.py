"""HTTP: requests, responses and errors, shared by all resources, and the server."""
