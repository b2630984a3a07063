//! Where each chip maps its flash, from ESP-IDF's `soc.h` of that chip.

use std::ops::Range;

use acuvim_rollout::Chip;

/// The address ranges for data and for instructions.
const fn ranges(chip: Chip) -> [Range<u32>; 2] {
    match chip {
        Chip::Esp32 => [0x3F40_0000..0x3F80_0000, 0x400D_0000..0x4040_0000],
        Chip::Esp32S2 => [0x3F00_0000..0x3FF8_0000, 0x4008_0000..0x4080_0000],
        Chip::Esp32C3 => [0x3C00_0000..0x3C80_0000, 0x4200_0000..0x4280_0000],
        Chip::Esp32S3 => [0x3C00_0000..0x3E00_0000, 0x4200_0000..0x4400_0000],
    }
}

/// Whether an address is in flash. Applications have segments there, bootloaders have none.
pub(crate) fn is_in_flash(chip: Chip, address: u32) -> bool {
    ranges(chip).iter().any(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flash_is_where_applications_are_and_bootloaders_are_not() {
        for (chip, address, flash) in [
            (Chip::Esp32, 0x3F40_0020, true),
            (Chip::Esp32, 0x400D_0020, true),
            (Chip::Esp32, 0x3FFB_0000, false),
            (Chip::Esp32, 0x4007_8000, false),
            (Chip::Esp32, 0x3F3F_FFFF, false),
            (Chip::Esp32, 0x3F7F_FFFF, true),
            (Chip::Esp32, 0x3F80_0000, false),
            (Chip::Esp32, 0x400C_FFFF, false),
            (Chip::Esp32, 0x403F_FFFF, true),
            (Chip::Esp32, 0x4040_0000, false),
            (Chip::Esp32S2, 0x3F00_0000, true),
            (Chip::Esp32S2, 0x3FF8_0000, false),
            (Chip::Esp32S2, 0x4008_0000, true),
            (Chip::Esp32S3, 0x3DFF_FFFF, true),
            (Chip::Esp32S3, 0x3E00_0000, false),
            (Chip::Esp32S3, 0x43FF_FFFF, true),
            (Chip::Esp32S3, 0x4037_8000, false),
            (Chip::Esp32C3, 0x4280_0000, false),
            (Chip::Esp32C3, 0x4200_0020, true),
            (Chip::Esp32C3, 0x3F40_0020, false),
        ] {
            assert_eq!(is_in_flash(chip, address), flash, "{chip} 0x{address:08X}");
        }
    }
}
