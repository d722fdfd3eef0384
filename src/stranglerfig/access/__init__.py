"""Who may do what, and when: roles, credentials, signed commands, approvals, change windows, and the audit trail."""
