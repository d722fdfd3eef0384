-- What a role needs that asks by the command line and changes nothing by itself: run by the owner of schema fig, once
-- fig has made its tables. It reads what `fig status`, `watch`, `approvals` and `audit` show, and asks the controller.
GRANT USAGE ON SCHEMA fig TO fig_asker;
GRANT SELECT ON fig.migration, fig.extraction, fig.visit, fig.series, fig.flow, fig.flow_part, fig.milestone TO fig_asker;
GRANT SELECT ON fig.command_event, fig.approval, fig.audit TO fig_asker;
GRANT SELECT (id, context, verb, args, asked_by, asked_at, asked_from, state, result, ended_at) ON fig.command TO fig_asker;
GRANT INSERT (context, verb, args, asked_by, asked_from, signature) ON fig.command TO fig_asker;
