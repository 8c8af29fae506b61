"""Where rows live. Stores store; they decide nothing."""
