"""Container engines: the only place that imports the SDK, and the only one that talks to it."""
