"""The composition root: settings, wiring, embedded servers, supervision of processes."""
