"""KPIs, evidence, verdicts."""
