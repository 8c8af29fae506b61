"""A job's way: enqueue, claim, execute, settle; and the tick that drives it."""
