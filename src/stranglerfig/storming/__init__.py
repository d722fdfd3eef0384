"""The Event Storming model: text form, lint, sign-off, generators."""
