"""Redis, through aioredis or redis-py."""
