//! The chips that loggers are built on, how an image names them, and where they map flash.
//!
//! Ids: ESP-IDF's `esp_app_format.h` (`esp_chip_id_t`). Ranges: ESP-IDF's `soc.h` of each chip.

use std::{fmt, ops::Range};

/// A chip that an image can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chip {
    /// ESP32.
    Esp32,
    /// ESP32-S2.
    Esp32S2,
    /// ESP32-C3.
    Esp32C3,
    /// ESP32-S3.
    Esp32S3,
}

impl Chip {
    /// Every chip, longest names first, so that a name is not taken for a shorter one.
    pub const ALL: [Self; 4] = [Self::Esp32S2, Self::Esp32C3, Self::Esp32S3, Self::Esp32];

    /// The id in an image's header.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Esp32 => 0,
            Self::Esp32S2 => 2,
            Self::Esp32C3 => 5,
            Self::Esp32S3 => 9,
        }
    }

    /// The chip of an id.
    #[must_use]
    pub fn of_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|chip| chip.id() == id)
    }

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Esp32 => "ESP32",
            Self::Esp32S2 => "ESP32-S2",
            Self::Esp32C3 => "ESP32-C3",
            Self::Esp32S3 => "ESP32-S3",
        }
    }

    /// The chip of that name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|chip| chip.as_str().eq_ignore_ascii_case(name))
    }

    /// Where it maps flash, data and instructions: an application has segments there, a bootloader
    /// has none.
    const fn flash(self) -> [Range<u32>; 2] {
        match self {
            Self::Esp32 => [0x3F40_0000..0x3F80_0000, 0x400D_0000..0x4040_0000],
            Self::Esp32S2 => [0x3F00_0000..0x3FF8_0000, 0x4008_0000..0x4080_0000],
            Self::Esp32C3 => [0x3C00_0000..0x3C80_0000, 0x4200_0000..0x4280_0000],
            Self::Esp32S3 => [0x3C00_0000..0x3E00_0000, 0x4200_0000..0x4400_0000],
        }
    }

    /// Whether an address is in flash.
    #[must_use]
    pub fn maps(self, address: u32) -> bool {
        self.flash().iter().any(|range| range.contains(&address))
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which chip a hardware is built on: what the settings say, else what its name says, else what is
/// known of it.
#[must_use]
pub fn chip_of(hardware: &str, configured: &[(String, Chip)]) -> Option<Chip> {
    let set = configured.iter().find(|(name, _)| name.eq_ignore_ascii_case(hardware));
    if let Some((_, chip)) = set {
        return Some(*chip);
    }
    let name = hardware.to_ascii_uppercase().replace([' ', '_'], "-");
    let named = Chip::ALL.into_iter().find(|chip| name.contains(chip.as_str()));
    // LilyGO's T-Call boards, all versions, carry the first ESP32.
    named.or_else(|| name.contains("T-CALL").then_some(Chip::Esp32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_has_the_chip_that_the_settings_or_its_name_say() {
        let set = [("Board 7".to_owned(), Chip::Esp32C3)];
        for (hardware, chip) in [
            ("TTGO T-Call v1.4", Some(Chip::Esp32)),
            ("ESP32", Some(Chip::Esp32)),
            ("esp32_s3 devkit", Some(Chip::Esp32S3)),
            ("ESP32-C3-Mini", Some(Chip::Esp32C3)),
            ("board 7", Some(Chip::Esp32C3)),
            ("Board 8", None),
        ] {
            assert_eq!(chip_of(hardware, &set), chip, "{hardware}");
        }
    }
}
