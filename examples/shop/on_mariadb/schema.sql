-- The shop's one database, on a MariaDB: what its inventory is made of.

-- name: inventory
CREATE TABLE inventory (
    item_id       bigint PRIMARY KEY,
    sku           varchar(40) NOT NULL,
    name          varchar(200) NOT NULL,
    quantity      int NOT NULL CHECK (quantity >= 0),
    reserved      int NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    reorder_level int NOT NULL DEFAULT 0,
    updated_at    timestamp(6) NOT NULL DEFAULT current_timestamp(6)
) ENGINE=InnoDB

-- name: reservations
CREATE TABLE reservations (
    id         bigint AUTO_INCREMENT PRIMARY KEY,
    item_id    bigint NOT NULL,
    order_id   bigint,
    qty        int NOT NULL CHECK (qty > 0),
    released   boolean NOT NULL DEFAULT false,
    created_at datetime(6) NOT NULL,
    CONSTRAINT reservations_item FOREIGN KEY (item_id) REFERENCES inventory (item_id)
) ENGINE=InnoDB

-- name: inventory_requests
-- Idempotency keys with the answer that was given. The answer is JSON as PostgreSQL's jsonb writes it, or the way back
-- would not give the same text.
CREATE TABLE inventory_requests (
    `key`      varchar(200) COLLATE utf8mb4_bin PRIMARY KEY,
    kind       varchar(20) NOT NULL,
    item_id    bigint NOT NULL,
    delta      int NOT NULL,
    response   json NOT NULL,
    created_at timestamp(6) NOT NULL DEFAULT current_timestamp(6)
) ENGINE=InnoDB

-- name: fill
INSERT INTO inventory (item_id, sku, name, quantity, reorder_level)
SELECT seq, concat('SKU-', lpad(seq, 7, '0')), concat('Item ', seq), 200 + (seq * 7919 + %(seed)s) %% 800, 20 + seq %% 30
FROM seq_1_to_{items}
