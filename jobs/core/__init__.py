"""The rules: pure, storing nothing, knowing no framework."""
