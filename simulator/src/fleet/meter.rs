//! One simulated meter. The same seed gives the same readings.

use std::{f64::consts::TAU, fmt::Write as _};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// The load that a meter measures.
#[derive(Debug, Clone)]
pub struct Site {
    /// The highest active power of the day, in kW.
    pub peak_kw: f64,
    /// The hour of the highest power, in UTC.
    pub peak_hour: f64,
    /// The power factor under load.
    pub power_factor: f64,
    /// The relative load of each phase.
    pub skew: [f64; 3],
}

/// A meter, with counters that only grow.
#[derive(Debug, Clone)]
pub struct Meter {
    /// The device id of the logger.
    pub device_id: String,
    site: Site,
    noise: SmallRng,
    last_ms: Option<i64>,
    import_kwh: f64,
    reactive_kvarh: f64,
    apparent_kvah: f64,
    seq: u64,
}

impl Meter {
    /// Meter number `n` of the fleet with this seed.
    #[must_use]
    pub fn new(seed: u64, n: u32) -> Self {
        let mut noise = SmallRng::seed_from_u64(seed ^ (u64::from(n) << 20));
        let site = Site {
            peak_kw: noise.random_range(5.0..120.0),
            peak_hour: noise.random_range(9.0..19.0),
            power_factor: noise.random_range(0.86..0.99),
            skew: [noise.random_range(0.9..1.1), noise.random_range(0.9..1.1), 1.0],
        };
        Self {
            device_id: format!("ACV-{:012X}", (u64::from(n) + 1) | (seed & 0xff) << 40),
            site,
            import_kwh: noise.random_range(1e3..5e5),
            reactive_kvarh: noise.random_range(1e2..5e4),
            apparent_kvah: noise.random_range(1e3..6e5),
            noise,
            last_ms: None,
            seq: 0,
        }
    }

    /// The telemetry payload at a time (Unix milliseconds), with about 40 readings. Counters grow with the
    /// time since the previous call.
    pub fn telemetry(&mut self, at_ms: i64, source: &str) -> String {
        let power = self.power(at_ms);
        let hours = self.last_ms.map_or(0.0, |last| (at_ms - last).max(0) as f64 / 3.6e6);
        // Time that was counted once is not counted again when the clock goes back.
        self.last_ms = Some(self.last_ms.map_or(at_ms, |last| last.max(at_ms)));
        let pf = self.site.power_factor + self.jitter(0.003);
        let (apparent, reactive) = (power / pf, power * (1.0 / (pf * pf) - 1.0).sqrt());
        self.import_kwh += power * hours;
        self.reactive_kvarh += reactive * hours;
        self.apparent_kvah += apparent * hours;
        self.seq += 1;
        let mut json = String::with_capacity(700);
        let time = chrono::DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
        let time = time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let seq = self.seq;
        // Writing to a String can't fail.
        let _ = write!(
            json,
            "{{\"ts\":\"{time}\",\"seq\":{seq},\"boot\":1,\"source\":\"{source}\",\
             \"connection\":\"wifi\",\"data\":{{"
        );
        self.electric(&mut json, power, pf, at_ms);
        self.counters(&mut json);
        json.push_str("}}");
        json
    }

    fn electric(&mut self, json: &mut String, power: f64, pf: f64, at_ms: i64) {
        let slow = (at_ms as f64 / 9e5 * TAU).sin();
        let hz = 50.0 + 0.02 * slow + self.jitter(0.01);
        field(json, "f", hz, 2);
        let volts = [0, 1, 2].map(|_| 230.0 + 1.5 * slow + self.jitter(0.4));
        let share: f64 = self.site.skew.iter().sum();
        let parts = self.site.skew.map(|skew| power * skew / share);
        let amps: Vec<f64> = parts.iter().zip(volts).map(|(p, v)| p * 1000.0 / (v * pf)).collect();
        for (n, v) in volts.iter().enumerate() {
            field(json, &format!("v{}", n + 1), *v, 1);
        }
        field(json, "vn", volts.iter().sum::<f64>() / 3.0, 1);
        for key in ["v12", "v23", "v31", "vl"] {
            let volts = 400.0 + 2.6 * slow + self.jitter(0.5);
            field(json, key, volts, 1);
        }
        for (n, a) in amps.iter().enumerate() {
            field(json, &format!("i{}", n + 1), *a, 2);
        }
        field(json, "ia", amps.iter().sum::<f64>() / 3.0, 2);
        field(json, "in", 0.3 + self.jitter(0.1), 2);
        for (n, p) in parts.iter().enumerate() {
            field(json, &format!("p{}", n + 1), *p, 3);
            field(json, &format!("s{}", n + 1), p / pf, 3);
            field(json, &format!("q{}", n + 1), p * (1.0 / (pf * pf) - 1.0).sqrt(), 3);
            field(json, &format!("pf{}", n + 1), pf, 3);
        }
        field(json, "p", power, 3);
        field(json, "s", power / pf, 3);
        field(json, "q", power * (1.0 / (pf * pf) - 1.0).sqrt(), 3);
        field(json, "pf", pf, 3);
        let unbalance = 0.4 + self.jitter(0.1).abs();
        field(json, "vu", unbalance, 2);
        field(json, "iu", 10.0 * unbalance, 2);
        field(json, "dp", power, 3);
        let distortion = 1.8 + self.jitter(0.1);
        field(json, "tv", distortion, 2);
        field(json, "ti", 3.0 * distortion, 2);
    }

    fn counters(&self, json: &mut String) {
        field(json, "ei", self.import_kwh, 1);
        field(json, "ee", 0.0, 1);
        field(json, "et", self.import_kwh, 1);
        field(json, "qi", self.reactive_kvarh, 1);
        field(json, "es", self.apparent_kvah, 1);
    }

    /// Active power of a moment, in kW: a base load, a bell around the peak hour, some noise.
    fn power(&mut self, at_ms: i64) -> f64 {
        let hour = (at_ms.rem_euclid(86_400_000) as f64) / 3.6e6;
        let off = (hour - self.site.peak_hour).abs().min(24.0 - (hour - self.site.peak_hour).abs());
        let bell = (-off * off / 18.0).exp();
        let level = 0.12 + 0.88 * bell;
        // Never quite zero, where the power factor of a real meter is not defined.
        (self.site.peak_kw * level * (1.0 + self.jitter(0.02))).max(0.05)
    }

    fn jitter(&mut self, by: f64) -> f64 {
        self.noise.random_range(-by..=by)
    }
}

fn field(json: &mut String, key: &str, value: f64, digits: usize) {
    if !json.ends_with('{') {
        json.push(',');
    }
    let _ = write!(json, "\"{key}\":{value:.digits$}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_wire::reading::target;

    #[test]
    fn readings_are_known_and_counters_only_grow() {
        let mut meter = Meter::new(7, 3);
        let mut last = 0.0;
        for minute in 0..100 {
            let text = meter.telemetry(1_795_000_000_000 + minute * 60_000, "live");
            let json: serde_json::Value = serde_json::from_str(&text).expect("json");
            let data = json["data"].as_object().expect("data");
            assert_eq!(data.len(), 40);
            assert!(data.keys().all(|k| target(k).is_some()));
            let energy = data["ei"].as_f64().expect("a number");
            assert!(energy >= last);
            last = energy;
        }
    }

    fn data(meter: &mut Meter, at_ms: i64) -> serde_json::Value {
        let text = meter.telemetry(at_ms, "live");
        serde_json::from_str(&text).expect("json")
    }

    /// A meter does not count backwards, also when the clock of its logger is corrected.
    #[test]
    fn a_clock_that_goes_back_takes_no_energy_back() {
        let mut meter = Meter::new(1, 1);
        let start = 1_795_000_000_000;
        let mut last = [0.0; 4];
        for minute in [0, 10, 5, -600, 11, 11, 12, -100_000, 13] {
            let json = data(&mut meter, start + minute * 60_000);
            let now = ["ei", "et", "qi", "es"].map(|key| json["data"][key].as_f64().expect(key));
            assert!(
                now.iter().zip(last).all(|(now, last)| *now >= last),
                "minute {minute}: {now:?}"
            );
            last = now;
        }
        let hour = data(&mut meter, start + 60 * 60_000)["data"]["ei"].as_f64().expect("a number");
        assert!(hour > last[0], "time that has really passed counts");
    }

    #[test]
    fn every_device_of_a_fleet_has_a_valid_id_of_its_own() {
        let mut ids = std::collections::HashSet::new();
        for seed in [0, 7, 255] {
            for n in (0..300).chain([u32::MAX - 1, u32::MAX]) {
                let id = Meter::new(seed, n).device_id;
                assert!(acuvim_wire::device::is_device_id(&id), "{id}");
                assert_eq!(id.len(), 16, "{id} has the form of a MAC address");
                assert!(ids.insert(id), "device {n} of fleet {seed}");
            }
        }
    }

    /// Rules and pages are tried out with these readings, so they have to make sense together.
    #[test]
    fn the_readings_of_a_moment_agree_with_one_another() {
        for n in 0..20 {
            let mut meter = Meter::new(3, n);
            for quarter in 0..96 {
                let json = data(&mut meter, 1_795_000_000_000 + quarter * 900_000);
                let of = |key: &str| json["data"][key].as_f64().expect("a number");
                assert!((49.9..50.1).contains(&of("f")), "{json}");
                assert!((0.8..1.0).contains(&of("pf")) && of("p") > 0.0, "{json}");
                assert!(of("s") >= of("p") && of("q") >= 0.0, "{json}");
                for (whole, parts) in [("p", ["p1", "p2", "p3"]), ("s", ["s1", "s2", "s3"])] {
                    let sum: f64 = parts.iter().map(|part| of(part)).sum();
                    assert!((sum - of(whole)).abs() < 0.01, "{whole}: {json}");
                }
                assert!(["v1", "v2", "v3"].iter().all(|v| (220.0..240.0).contains(&of(v))));
                assert_eq!(json["seq"], quarter + 1);
            }
        }
    }

    #[test]
    fn the_time_of_a_reading_is_the_one_asked_for_with_its_milliseconds() {
        let mut meter = Meter::new(1, 1);
        for (at_ms, ts) in [
            (1_795_000_000_007, "2026-11-18T11:06:40.007Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            let json = data(&mut meter, at_ms);
            assert_eq!((&json["ts"], &json["source"]), (&ts.into(), &"live".into()));
        }
    }

    #[test]
    fn a_seed_makes_the_same_fleet() {
        let of = |seed| Meter::new(seed, 1).telemetry(1_795_000_000_000, "live");
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
