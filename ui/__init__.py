"""The Gradio page: one more door beside the HTTP API and the command line."""
