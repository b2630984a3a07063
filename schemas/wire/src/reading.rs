//! The readings of the meter: one table of names, short keys, units, registers and decimal types.

use std::{collections::HashMap, sync::OnceLock};

/// One numeric reading of the meter, a DECIMAL column of `telemetry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The name in JSON, SQL, REST and files, which ends with the unit.
    pub name: &'static str,
    /// The short key, for links that are paid by the byte.
    pub short: &'static str,
    /// The symbol of the unit; empty for a ratio.
    pub unit: &'static str,
    /// Decimal digits in total.
    pub precision: u8,
    /// Decimal digits after the point: at least ten times finer than the resolution of the meter.
    pub scale: u8,
    /// The Modbus register of the Acuvim II, in hex.
    pub register: &'static str,
    /// What it measures, for people.
    pub description: &'static str,
}

impl Reading {
    /// Whether it is an energy counter, of which only differences are meaningful.
    #[must_use]
    pub const fn is_counter(&self) -> bool {
        matches!(self.name.as_bytes(), [b'e', b'n', b'e', b'r', b'g', b'y', b'_', ..])
    }
}

/// The only reading that is a text (inductive, capacitive, resistive), register 4040.
pub const LOAD_TYPE: &str = "load_type";

/// The short key of [`LOAD_TYPE`].
pub const LOAD_TYPE_SHORT: &str = "lt";

/// The column of a JSON key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The numeric reading at this index of [`READINGS`].
    Number(usize),
    /// The text reading `load_type`.
    LoadType,
}

/// The column of a JSON key, long or short.
#[must_use]
pub fn target(key: &str) -> Option<Target> {
    static KEYS: OnceLock<HashMap<&'static str, Target>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let numbers = READINGS
            .iter()
            .enumerate()
            .flat_map(|(i, r)| [(r.name, Target::Number(i)), (r.short, Target::Number(i))]);
        let texts = [LOAD_TYPE, LOAD_TYPE_SHORT].map(|k| (k, Target::LoadType));
        numbers.chain(texts).collect()
    })
    .get(key)
    .copied()
}

/// Decimal digits in total, and after the point.
#[derive(Clone, Copy)]
struct Digits(u8, u8);

const fn reading(
    name: &'static str,
    short: &'static str,
    unit: &'static str,
    digits: Digits,
    register: &'static str,
    description: &'static str,
) -> Reading {
    let Digits(precision, scale) = digits;
    Reading { name, short, unit, precision, scale, register, description }
}

/// Every numeric reading, in the order of the registers and of the columns.
#[rustfmt::skip]
pub const READINGS: [Reading; 52] = [
    reading("frequency_hz", "f", "Hz", Digits(9, 3), "4000", "Line frequency"),
    reading("voltage_l1_v", "v1", "V", Digits(9, 2), "4002", "Voltage, phase 1 to neutral"),
    reading("voltage_l2_v", "v2", "V", Digits(9, 2), "4004", "Voltage, phase 2 to neutral"),
    reading("voltage_l3_v", "v3", "V", Digits(9, 2), "4006", "Voltage, phase 3 to neutral"),
    reading("voltage_ln_avg_v", "vn", "V", Digits(9, 2), "4008", "Voltage, mean line to neutral"),
    reading("voltage_l12_v", "v12", "V", Digits(9, 2), "400A", "Voltage, phase 1 to 2"),
    reading("voltage_l23_v", "v23", "V", Digits(9, 2), "400C", "Voltage, phase 2 to 3"),
    reading("voltage_l31_v", "v31", "V", Digits(9, 2), "400E", "Voltage, phase 3 to 1"),
    reading("voltage_ll_avg_v", "vl", "V", Digits(9, 2), "4010", "Voltage, mean line to line"),
    reading("current_l1_a", "i1", "A", Digits(9, 3), "4012", "Current, phase 1"),
    reading("current_l2_a", "i2", "A", Digits(9, 3), "4014", "Current, phase 2"),
    reading("current_l3_a", "i3", "A", Digits(9, 3), "4016", "Current, phase 3"),
    reading("current_avg_a", "ia", "A", Digits(9, 3), "4018", "Current, mean of the phases"),
    reading("current_n_a", "in", "A", Digits(9, 3), "401A", "Current, neutral"),
    reading("active_power_l1_kw", "p1", "kW", Digits(14, 4), "401C", "Active power, phase 1"),
    reading("active_power_l2_kw", "p2", "kW", Digits(14, 4), "401E", "Active power, phase 2"),
    reading("active_power_l3_kw", "p3", "kW", Digits(14, 4), "4020", "Active power, phase 3"),
    reading("active_power_total_kw", "p", "kW", Digits(14, 4), "4022", "Active power, total"),
    reading("reactive_power_l1_kvar", "q1", "kvar", Digits(14, 4), "4024", "Reactive power, phase 1"),
    reading("reactive_power_l2_kvar", "q2", "kvar", Digits(14, 4), "4026", "Reactive power, phase 2"),
    reading("reactive_power_l3_kvar", "q3", "kvar", Digits(14, 4), "4028", "Reactive power, phase 3"),
    reading("reactive_power_total_kvar", "q", "kvar", Digits(14, 4), "402A", "Reactive power, total"),
    reading("apparent_power_l1_kva", "s1", "kVA", Digits(14, 4), "402C", "Apparent power, phase 1"),
    reading("apparent_power_l2_kva", "s2", "kVA", Digits(14, 4), "402E", "Apparent power, phase 2"),
    reading("apparent_power_l3_kva", "s3", "kVA", Digits(14, 4), "4030", "Apparent power, phase 3"),
    reading("apparent_power_total_kva", "s", "kVA", Digits(14, 4), "4032", "Apparent power, total"),
    reading("power_factor_l1", "pf1", "", Digits(9, 4), "4034", "Power factor, phase 1"),
    reading("power_factor_l2", "pf2", "", Digits(9, 4), "4036", "Power factor, phase 2"),
    reading("power_factor_l3", "pf3", "", Digits(9, 4), "4038", "Power factor, phase 3"),
    reading("power_factor_total", "pf", "", Digits(9, 4), "403A", "Power factor, total"),
    reading("voltage_unbalance_pct", "vu", "%", Digits(9, 3), "403C", "Voltage unbalance"),
    reading("current_unbalance_pct", "iu", "%", Digits(9, 3), "403E", "Current unbalance"),
    reading("demand_active_kw", "dp", "kW", Digits(14, 4), "4042", "Demand, active power"),
    reading("demand_reactive_kvar", "dq", "kvar", Digits(14, 4), "4044", "Demand, reactive power"),
    reading("demand_apparent_kva", "ds", "kVA", Digits(14, 4), "4046", "Demand, apparent power"),
    reading("energy_import_kwh", "ei", "kWh", Digits(14, 2), "4048", "Energy imported. Rolls over at 99,999,999.9"),
    reading("energy_export_kwh", "ee", "kWh", Digits(14, 2), "404A", "Energy exported. Rolls over at 99,999,999.9"),
    reading("energy_reactive_import_kvarh", "qi", "kvarh", Digits(14, 2), "404C", "Reactive energy imported. Rolls over at 99,999,999.9"),
    reading("energy_reactive_export_kvarh", "qe", "kvarh", Digits(14, 2), "404E", "Reactive energy exported. Rolls over at 99,999,999.9"),
    reading("energy_total_kwh", "et", "kWh", Digits(14, 2), "4050", "Energy, imported plus exported. Rolls over at 99,999,999.9"),
    reading("energy_net_kwh", "en", "kWh", Digits(14, 2), "4052", "Energy, imported less exported; signed. Rolls over at 99,999,999.9"),
    reading("energy_reactive_total_kvarh", "qt", "kvarh", Digits(14, 2), "4054", "Reactive energy, imported plus exported. Rolls over at 99,999,999.9"),
    reading("energy_reactive_net_kvarh", "qn", "kvarh", Digits(14, 2), "4056", "Reactive energy, imported less exported; signed. Rolls over at 99,999,999.9"),
    reading("energy_apparent_kvah", "es", "kVAh", Digits(14, 2), "4058", "Apparent energy. Rolls over at 99,999,999.9"),
    reading("thd_voltage_l1_pct", "tv1", "%", Digits(9, 3), "405A", "Total harmonic distortion of voltage, phase 1"),
    reading("thd_voltage_l2_pct", "tv2", "%", Digits(9, 3), "405B", "Total harmonic distortion of voltage, phase 2"),
    reading("thd_voltage_l3_pct", "tv3", "%", Digits(9, 3), "405C", "Total harmonic distortion of voltage, phase 3"),
    reading("thd_voltage_avg_pct", "tv", "%", Digits(9, 3), "405D", "Total harmonic distortion of voltage, mean"),
    reading("thd_current_l1_pct", "ti1", "%", Digits(9, 3), "405E", "Total harmonic distortion of current, phase 1"),
    reading("thd_current_l2_pct", "ti2", "%", Digits(9, 3), "405F", "Total harmonic distortion of current, phase 2"),
    reading("thd_current_l3_pct", "ti3", "%", Digits(9, 3), "4060", "Total harmonic distortion of current, phase 3"),
    reading("thd_current_avg_pct", "ti", "%", Digits(9, 3), "4061", "Total harmonic distortion of current, mean"),
];

#[cfg(test)]
mod tests;
