-- What meters' counters can do, as far as that is not what every Acuvim's can.

ALTER TABLE groups ADD COLUMN max_power_kw DOUBLE PRECISION;
ALTER TABLE groups ADD COLUMN counter_end DOUBLE PRECISION;
ALTER TABLE devices ADD COLUMN max_power_kw DOUBLE PRECISION;
ALTER TABLE devices ADD COLUMN counter_end DOUBLE PRECISION;
