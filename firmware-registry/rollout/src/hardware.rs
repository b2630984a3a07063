//! Chips and hardware: which chip a board carries, and whether a release runs on a device.
//!
//! The ids are those of ESP-IDF's `esp_app_format.h` (`esp_chip_id_t`).

use std::fmt;

use acuvim_model::Firmware;

/// A chip that firmware can be built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chip {
    /// The first ESP32.
    Esp32,
    /// The ESP32-S2, with one Xtensa core.
    Esp32S2,
    /// The ESP32-C3, with a RISC-V core.
    Esp32C3,
    /// The ESP32-S3, with two Xtensa cores.
    Esp32S3,
}

impl Chip {
    /// All chips. `ESP32` comes last because it is a prefix of the other names: a search for the
    /// first name that occurs in a text would otherwise always find it.
    pub const ALL: [Self; 4] = [Self::Esp32S2, Self::Esp32C3, Self::Esp32S3, Self::Esp32];

    /// The chip id in an image header.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Esp32 => 0,
            Self::Esp32S2 => 2,
            Self::Esp32C3 => 5,
            Self::Esp32S3 => 9,
        }
    }

    /// The chip with this id in an image header.
    #[must_use]
    pub fn of_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|chip| chip.id() == id)
    }

    /// The name in the API and in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Esp32 => "ESP32",
            Self::Esp32S2 => "ESP32-S2",
            Self::Esp32C3 => "ESP32-C3",
            Self::Esp32S3 => "ESP32-S3",
        }
    }

    /// The chip with this name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|chip| chip.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The chip of a hardware: from the settings if they name the hardware, else from the hardware's own
/// name, else from the boards known here.
#[must_use]
pub fn chip_of(hardware: &str, configured: &[(String, Chip)]) -> Option<Chip> {
    let set = configured.iter().find(|(name, _)| name.eq_ignore_ascii_case(hardware));
    if let Some((_, chip)) = set {
        return Some(*chip);
    }
    // Without separators, because boards are called `ESP32-S3`, `ESP32_S3` and `ESP32S3`: the last one would
    // be taken for the first ESP32.
    let name = without_separators(hardware);
    let named = |chip: &Chip| name.contains(&without_separators(chip.as_str()));
    let named = Chip::ALL.into_iter().find(named);
    // LilyGO's T-Call boards, all versions, carry the first ESP32.
    named.or_else(|| name.contains("TCALL").then_some(Chip::Esp32))
}

fn without_separators(name: &str) -> String {
    name.to_ascii_uppercase().replace([' ', '_', '-'], "")
}

/// Why a device can't run a release, or `None` if it can. A release for one hardware needs a device
/// known to have it. A release for every hardware needs the right chip, and a device whose chip is
/// unknown is accepted.
#[must_use]
pub fn why_unfit(
    firmware: &Firmware,
    hardware: Option<&str>,
    configured: &[(String, Chip)],
) -> Option<String> {
    match (&firmware.hardware, hardware) {
        (Some(wanted), None) => {
            Some(format!("its hardware is not known, the image is for {wanted}"))
        }
        (Some(wanted), Some(its)) if !its.eq_ignore_ascii_case(wanted) => {
            Some(format!("its hardware is {its}, the image is for {wanted}"))
        }
        (None, Some(its)) => {
            let chip = chip_of(its, configured)?;
            let other = chip.as_str() != firmware.image.chip;
            other.then(|| {
                format!("its chip is the {chip}, the image is for the {}", firmware.image.chip)
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_come_before_the_hardwares_own_name() {
        let set = [("Board 7".to_owned(), Chip::Esp32C3)];
        for (hardware, chip) in [
            ("TTGO T-Call v1.4", Some(Chip::Esp32)),
            ("ESP32", Some(Chip::Esp32)),
            ("esp32_s3 devkit", Some(Chip::Esp32S3)),
            ("ESP32-C3-Mini", Some(Chip::Esp32C3)),
            ("ESP32S3-DevKitC", Some(Chip::Esp32S3)),
            ("Lolin esp32c3", Some(Chip::Esp32C3)),
            ("ESP32 S2 Saola", Some(Chip::Esp32S2)),
            ("ESP-32S", Some(Chip::Esp32)),
            ("t_call sim800", Some(Chip::Esp32)),
            ("", None),
            ("ESP8266", None),
            ("board 7", Some(Chip::Esp32C3)),
            ("Board 8", None),
        ] {
            assert_eq!(chip_of(hardware, &set), chip, "{hardware}");
        }
    }

    /// A board with a misleading name can be corrected by the operator.
    #[test]
    fn a_setting_names_one_hardware_exactly_and_not_those_that_begin_alike() {
        let set = [("ESP32-S3".to_owned(), Chip::Esp32C3), ("T-Call".to_owned(), Chip::Esp32S2)];
        assert_eq!(chip_of("esp32-s3", &set), Some(Chip::Esp32C3));
        assert_eq!(
            chip_of("ESP32-S3 v2", &set),
            Some(Chip::Esp32S3),
            "not the one in the settings"
        );
        assert_eq!(chip_of("T-CALL", &set), Some(Chip::Esp32S2));
        assert_eq!(chip_of("T-Call v1.4", &set), Some(Chip::Esp32));
    }

    #[test]
    fn ids_and_names_are_read_back() {
        for chip in Chip::ALL {
            assert_eq!(Chip::of_id(chip.id()), Some(chip));
            assert_eq!(Chip::parse(&chip.to_string().to_lowercase()), Some(chip));
        }
        assert_eq!((Chip::of_id(1), Chip::parse("ESP8266")), (None, None));
    }

    fn firmware(hardware: Option<&str>) -> Firmware {
        serde_json::from_value(serde_json::json!({
            "id": uuid::Uuid::nil(), "version": "1.2.0", "filename": "a.bin", "file_size": 1,
            "checksum": "00", "hardware": hardware, "mandatory": false, "active": true,
            "release_notes": null, "manifest": null, "warnings": [], "created_by": "test",
            "image": { "chip": "ESP32" },
            "created_at": "2026-11-19T00:00:00Z", "updated_at": "2026-11-19T00:00:00Z",
        }))
        .expect("a release")
    }

    #[test]
    fn a_release_for_one_hardware_needs_that_hardware() {
        let one = firmware(Some("T-Call"));
        assert_eq!(why_unfit(&one, Some("t-call"), &[]), None);
        assert!(why_unfit(&one, Some("Board 8"), &[]).is_some_and(|why| why.contains("Board 8")));
        assert!(why_unfit(&one, None, &[]).is_some_and(|why| why.contains("not known")));
    }

    #[test]
    fn a_release_for_every_hardware_needs_the_chip_as_far_as_it_is_known() {
        let all = firmware(None);
        assert_eq!(why_unfit(&all, None, &[]), None);
        assert_eq!(why_unfit(&all, Some("Board 8"), &[]), None, "its chip is unknown");
        assert!(why_unfit(&all, Some("ESP32-S3"), &[]).is_some_and(|why| why.contains("ESP32-S3")));
        let set = [("Board 8".to_owned(), Chip::Esp32C3)];
        assert!(why_unfit(&all, Some("Board 8"), &set).is_some());
    }
}
