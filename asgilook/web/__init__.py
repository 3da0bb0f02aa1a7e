"""HTTP as all resources share it: requests, responses, errors and the server."""
