"""Video models on our own device: the backend, the child process that runs them, and one file per model family."""
