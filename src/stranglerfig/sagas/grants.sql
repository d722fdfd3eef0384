-- What the role that a service runs as needs of the sagas' tables; {role} is its name.
GRANT SELECT, INSERT, UPDATE, DELETE ON fig.saga, fig.saga_kind, fig.saga_lock, fig.flow_kind, fig.flow_event TO {role};
