\set n :n + 1
\set sku (:client_id + :n) % :skus
\set customer (:run * 1000 + :client_id) * 100000000 + :n
WITH attempt AS (
  INSERT INTO attempts (sku, customer, key, quantity)
  VALUES (:sku, :customer, :customer, 1)
  ON CONFLICT DO NOTHING
  RETURNING id, sku, customer, quantity
), allowed AS (
  SELECT * FROM attempt
  WHERE quantity + (SELECT coalesce(sum(h.quantity), 0) FROM holds h
                    WHERE h.sku = attempt.sku AND h.customer = attempt.customer) <= :limit
), taken AS (
  UPDATE stock SET available = stock.available - allowed.quantity
  FROM allowed
  WHERE stock.sku = allowed.sku AND stock.available >= allowed.quantity
  RETURNING allowed.*
), hold AS (
  INSERT INTO holds (attempt, sku, customer, quantity, until)
  SELECT id, sku, customer, quantity, now() + :hold * interval '1 second' FROM taken
  RETURNING attempt, until
)
SELECT CASE WHEN hold.attempt IS NOT NULL THEN 'reserved'
            WHEN attempt.id IS NULL THEN 'seen before'
            WHEN allowed.id IS NULL THEN 'over_limit' ELSE 'sold_out' END, hold.until
FROM (SELECT 1) AS one LEFT JOIN attempt ON true LEFT JOIN allowed ON true LEFT JOIN hold ON true;
