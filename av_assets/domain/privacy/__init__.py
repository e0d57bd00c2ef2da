"""Finding and removing faces and plates; the only maker of redacted frames."""
