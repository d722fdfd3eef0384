"""Which log? What candidates do with a team's own size and rate of events, and what follows for each need."""
