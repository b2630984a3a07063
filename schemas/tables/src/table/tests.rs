use super::*;

#[test]
fn telemetry_commits_last_and_date_is_the_last_column() {
    assert_eq!(Table::COMMIT_ORDER.last(), Some(&Table::Telemetry));
    for table in Table::ALL {
        assert_eq!(table.schema().fields().last().map(|f| f.name().as_str()), Some(DATE));
        for column in table.sort_columns() {
            assert!(table.schema().field_with_name(column).is_ok());
        }
    }
}

/// A table's columns, `?` behind those that may be null.
fn shape(table: Table) -> String {
    let kind = |of: &DataType| match of {
        DataType::Utf8 => "text".to_owned(),
        DataType::Int32 => "i32".to_owned(),
        DataType::Int64 => "i64".to_owned(),
        DataType::Float64 => "real".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Binary => "bytes".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Decimal128(precision, scale) => format!("{precision}.{scale}"),
        time if *time == timestamp() => "time".to_owned(),
        other => panic!("{other}"),
    };
    let schema = table.schema();
    let columns = schema.fields().iter().map(|field| {
        let null = if field.is_nullable() { "?" } else { "" };
        format!("{}:{}{null}", field.name(), kind(field.data_type()))
    });
    columns.collect::<Vec<_>>().join(" ")
}

/// Stored files have these columns, and Delta neither renames them nor changes their types.
#[test]
fn the_columns_of_the_small_tables_are_as_stored() {
    let identity = "epoch:i32 partition:i32 offset:i64 item:i32 date:date";
    for (table, columns) in [
        (
            Table::DeadLetters,
            "device_id:text? received_at:time kind:text topic:text reason:text detail:text? \
             payload:bytes payload_length:i64 payload_sha256:text?",
        ),
        (
            Table::Heartbeats,
            "device_id:text ts:time received_at:time heartbeat_interval_s:i64? firmware_version:text? \
             hardware:text? uptime_ms:i64? boot:i64? meter_serial:text? reset_reason:text? \
             free_heap:i64? min_free_heap:i64? connection_type:text? signal_strength:i64? \
             ip_address:text? modbus_ok:i64? modbus_errors:i64? sd_present:bool? sd_free_mb:i64? \
             sd_pending:i64? mqtt_reconnects:i64? wifi_reconnects:i64? extra:text?",
        ),
        (
            Table::Ledger,
            "device_id:text? minute:time records:i64 received:i64 stored:i64 heartbeats:i64 noted:i64 \
             duplicates:i64 dead_letters:i64 replayed:i64 internal:i64 first_offset:i64 \
             next_offset:i64 same_ts:i64?",
        ),
    ] {
        assert_eq!(shape(table), format!("{columns} {identity}"), "{}", table.name());
    }
    let alerts = "event_id:text alert_id:text device_id:text? ts:time recorded_at:time event:text \
                  alert_type:text severity:text origin:text message:text value:real? threshold:real? \
                  rule_id:text? rule_version:i64? shadow:bool silenced:bool backfilled:bool \
                  incident_id:text? by:text? note:text? readings:text? date:date";
    assert_eq!(shape(Table::AlertEvents), alerts);
    let devices = "event_id:text device_id:text ts:time recorded_at:time event:text status:text? \
                   previous:text? reason:text? detail:text? date:date";
    assert_eq!(shape(Table::DeviceEvents), devices);
}

#[test]
fn a_reading_is_a_decimal_that_may_be_missing() {
    let shape = shape(Table::Telemetry);
    let first = "device_id:text ts:time received_at:time source:text? connection:text? seq:i64? boot:i64? \
                 frequency_hz:9.3? voltage_l1_v:9.2? ";
    let last = " thd_current_avg_pct:9.3? load_type:text? extra:text? \
                epoch:i32 partition:i32 offset:i64 item:i32 date:date";
    assert!(shape.starts_with(first) && shape.ends_with(last), "{shape}");
    assert!(
        shape.contains(" active_power_total_kw:14.4? ")
            && shape.contains(" energy_import_kwh:14.2? ")
    );
}

#[test]
fn a_rollup_has_its_key_then_what_may_be_missing() {
    let quarter = shape(Table::Rollup15m);
    let first = "device_id:text ts:time samples:i32? last_ts:time? meter_serial:text? counter_state:text? \
                 frequency_hz_count:i32? frequency_hz_min:9.3? frequency_hz_max:9.3? frequency_hz_avg:real? ";
    assert!(quarter.starts_with(first), "{quarter}");
    let counter = " energy_import_kwh_count:i32? energy_import_kwh_delta:14.2? \
                    energy_import_kwh_last:14.2? energy_import_kwh_suspect:i32? ";
    assert!(quarter.contains(counter), "{quarter}");
    let daily = shape(Table::RollupDaily);
    let first = "device_id:text ts:time day:date? time_zone:text? samples:i32? last_ts:time? \
                 meter_serial:text? frequency_hz_count:i32? ";
    assert!(daily.starts_with(first), "{daily}");
}

#[test]
fn names_of_tables_and_columns_are_there_once() {
    let mut names = std::collections::HashSet::new();
    for table in Table::ALL {
        assert!(names.insert(table.name()), "{}", table.name());
        assert!(!table.description().is_empty());
        let schema = table.schema();
        let columns: std::collections::HashSet<_> =
            schema.fields().iter().map(|f| f.name()).collect();
        assert_eq!(columns.len(), schema.fields().len(), "{}", table.name());
        // Sorting and pruning need a key in every row, but for what belongs to no device.
        let [device, time] = table.sort_columns();
        assert!(!schema.field_with_name(time).expect(time).is_nullable());
        let by_device = schema.field_with_name(device).expect(device).is_nullable();
        let of_none = [Table::DeadLetters, Table::Ledger, Table::AlertEvents].contains(&table);
        assert_eq!(by_device, of_none, "{}", table.name());
    }
    let groups = [&Table::COMMIT_ORDER[..], &Table::EVENTS, &Table::ROLLUPS].concat();
    assert!(groups.len() == Table::ALL.len() && Table::ALL.iter().all(|t| groups.contains(t)));
}
