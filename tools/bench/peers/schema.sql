CREATE TABLE stock (sku int PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0));
CREATE TABLE attempts (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sku int NOT NULL,
  customer bigint NOT NULL,
  key bigint NOT NULL,
  quantity int NOT NULL,
  UNIQUE (sku, customer, key));
CREATE TABLE holds (
  attempt bigint PRIMARY KEY,
  sku int NOT NULL,
  customer bigint NOT NULL,
  quantity int NOT NULL,
  until timestamptz NOT NULL);
CREATE INDEX ON holds (sku, customer);
INSERT INTO stock SELECT n, {{stock}} FROM generate_series(0, {{skus}} - 1) AS n;
