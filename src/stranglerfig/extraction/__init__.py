"""One bounded context on its way: stages, cut-over, rollback, decommission."""
