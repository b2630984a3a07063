"""The questions of `./dev peers`, asked of DuckDB and Polars on the lake's own Parquet files.

Reads a JSON object with the folder of the table, the day, a device and the month of another from
stdin; prints for each engine and question the best time in milliseconds and the answer.
"""

import json
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import polars as pl
from deltalake import DeltaTable

TIMES = 5


def best(ask):
    """The answer, and the best of a few times in milliseconds after one that warms up."""
    answer = ask()
    took = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        ask()
        took.append((time.perf_counter() - begun) * 1000)
    return {"ms": min(took), "rows": answer}


def main():
    task = json.load(sys.stdin)
    files = DeltaTable(task["table"]).file_uris()
    files = [uri.removeprefix("file://") for uri in files]
    moment = lambda ms: datetime.fromtimestamp(ms / 1000, timezone.utc)
    asked = {
        "day": (moment(task["from"]), moment(task["to"])),
        "hour": (moment(task["hour"]), moment(task["hour"] + 3_600_000)),
        "month": (moment(task["month_from"]), moment(task["month_to"])),
        "device": task["device"],
        "month_device": task["month_device"],
        "readings": task["readings"],
        "out": Path(task["out"]),
    }
    found = {"DuckDB": duck(files, asked, task["threads"]), "Polars": polars(files, asked)}
    plain = lambda value: value.timestamp() if isinstance(value, datetime) else float(value)
    json.dump({"files": files, "found": found}, sys.stdout, default=plain)


# What an export has beside the readings.
BESIDE = ["received_at", "source", "connection", "seq", "boot"]


def duck(files, asked, threads):
    db = duckdb.connect()
    db.execute(f"SET threads = {threads}; SET TimeZone = 'UTC'")
    db.execute("CREATE VIEW t AS SELECT * FROM read_parquet(" + json.dumps(files).replace('"', "'") + ")")
    within = lambda name: "ts >= TIMESTAMPTZ '{:%Y-%m-%d %H:%M:%S}+00' AND ts < TIMESTAMPTZ '{:%Y-%m-%d %H:%M:%S}+00'".format(*asked[name])
    rows = lambda sql: lambda: db.execute(sql).fetchall()
    columns = ", ".join(asked["readings"])
    wide = ", ".join(f"avg({c})" for c in asked["readings"][:12])
    device, month_device = asked["device"], asked["month_device"]
    csv = asked["out"] / "duckdb.csv"

    def month():
        db.execute(
            f"COPY (SELECT ts, {', '.join(BESIDE)}, {columns} FROM t WHERE device_id = '{month_device}' AND {within('month')} "
            f"ORDER BY ts) TO '{csv}' (HEADER, DELIMITER ',')"
        )
        with open(csv, "rb") as lines:
            return [[sum(1 for _ in lines) - 1]]

    return {
        "last point": best(rows(f"SELECT device_id, arg_max(active_power_total_kw, ts) FROM t WHERE {within('day')} GROUP BY 1 ORDER BY 1")),
        "hour raw": best(rows(f"SELECT epoch(ts), {columns} FROM t WHERE device_id = '{device}' AND {within('hour')} ORDER BY ts")),
        "day in 5 minutes": best(rows(
            "SELECT avg(voltage_l1_v), max(active_power_total_kw) FROM t "
            f"WHERE device_id = '{device}' AND {within('day')} GROUP BY time_bucket(INTERVAL 5 minutes, ts) ORDER BY time_bucket(INTERVAL 5 minutes, ts)"
        )),
        "hourly by group": best(rows(
            "SELECT right(device_id, 1) AS g, hour(ts) AS h, avg(active_power_total_kw) FROM t "
            f"WHERE {within('day')} GROUP BY 1, 2 ORDER BY 1, 2"
        )),
        "top ten": best(rows(f"SELECT device_id, max(current_avg_a) AS a FROM t WHERE {within('day')} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10")),
        "over-voltage": best(rows(f"SELECT device_id, count(*) FROM t WHERE voltage_l1_v > 231.5 AND {within('day')} GROUP BY 1 ORDER BY 1")),
        "energy by day": best(rows(f"SELECT device_id, max(energy_import_kwh) - min(energy_import_kwh) FROM t WHERE {within('day')} GROUP BY 1 ORDER BY 1")),
        "wide scan": best(rows(f"SELECT count(*), {wide} FROM t WHERE power_factor_total < 0.95 AND frequency_hz > 50 AND {within('day')}")),
        "month as CSV": best(month),
    }


def polars(files, asked):
    within = lambda name: (pl.col("ts") >= asked[name][0]) & (pl.col("ts") < asked[name][1])
    scan = lambda: pl.scan_parquet(files, hive_partitioning=False)
    device, readings = asked["device"], asked["readings"]
    floats = lambda *names: [pl.col(n).cast(pl.Float64) for n in names]

    def rows(frame):
        return lambda: frame().collect().rows()

    def month():
        out = asked["out"] / "polars.csv"
        frame = scan().filter((pl.col("device_id") == asked["month_device"]) & within("month"))
        frame.select("ts", *BESIDE, *readings).sort("ts").sink_csv(out)
        with open(out, "rb") as lines:
            return [[sum(1 for _ in lines) - 1]]

    day = lambda: scan().filter(within("day"))
    return {
        "last point": best(rows(lambda: day().group_by("device_id").agg(pl.col("active_power_total_kw").sort_by("ts").last()).sort("device_id"))),
        "hour raw": best(rows(lambda: scan().filter((pl.col("device_id") == device) & within("hour")).select("ts", *readings).sort("ts"))),
        "day in 5 minutes": best(rows(
            lambda: day().filter(pl.col("device_id") == device).group_by(pl.col("ts").dt.truncate("5m"))
            .agg(pl.col("voltage_l1_v").cast(pl.Float64).mean(), pl.col("active_power_total_kw").max())
            .sort("ts").select("voltage_l1_v", "active_power_total_kw")
        )),
        "hourly by group": best(rows(
            lambda: day().group_by(pl.col("device_id").str.tail(1).alias("g"), pl.col("ts").dt.hour().alias("h"))
            .agg(pl.col("active_power_total_kw").cast(pl.Float64).mean()).sort("g", "h")
        )),
        "top ten": best(rows(
            lambda: day().group_by("device_id").agg(pl.col("current_avg_a").max())
            .sort(["current_avg_a", "device_id"], descending=[True, False]).head(10)
        )),
        "over-voltage": best(rows(
            lambda: day().filter(pl.col("voltage_l1_v") > 231.5).group_by("device_id").len().sort("device_id")
        )),
        "energy by day": best(rows(
            lambda: day().group_by("device_id").agg(pl.col("energy_import_kwh").max() - pl.col("energy_import_kwh").min()).sort("device_id")
        )),
        "wide scan": best(rows(
            lambda: day().filter((pl.col("power_factor_total") < 0.95) & (pl.col("frequency_hz") > 50))
            .select(pl.len(), *[e.mean() for e in floats(*readings[:12])])
        )),
        "month as CSV": best(month),
    }


main()
