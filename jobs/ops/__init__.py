"""Operations: why a job does not run, and what is wrong with a deployment."""
