-- The groups of this log move into the leases that logs of any kind share.
INSERT INTO fig.lease (log, topic, partition, grp, position)
SELECT '', t.name, g.partition, g.grp, g.position
FROM fig.log_group AS g JOIN fig.log_topic AS t ON t.id = g.topic_id
ON CONFLICT DO NOTHING;

DROP TABLE fig.log_group, fig.log_member;
