-- What the role that a service runs as needs of the kit's tables; {role} is its name.
GRANT USAGE ON SCHEMA fig TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON fig.outbox, fig.subscription, fig.inbox, fig.reply, fig.attempt, fig.dead_letter,
    fig.stream_event, fig.snapshot, fig.answer, fig.projection, fig.projection_position TO {role};
-- What is left of a key that was destroyed stays.
GRANT SELECT, INSERT, UPDATE ON fig.personal_key TO {role};
