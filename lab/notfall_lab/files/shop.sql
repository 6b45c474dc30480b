CREATE TABLE orders (id bigserial PRIMARY KEY, client text NOT NULL, number bigint NOT NULL, text text NOT NULL, tries int NOT NULL DEFAULT 1, at timestamptz NOT NULL DEFAULT now(), UNIQUE (client, number));
ALTER TABLE orders OWNER TO shop;
