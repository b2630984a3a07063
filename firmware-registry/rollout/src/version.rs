//! Firmware versions: semantic ones (semver.org, 2.0.0) of at most 32 characters.

use std::{cmp::Ordering, fmt};

/// The length that an image's descriptor has room for.
const MAX_LENGTH: usize = 32;

/// A semantic version. Build metadata is kept and does not count in comparisons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(semver::Version);

impl Version {
    /// Parses the version of a release. A leading `v` is refused.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parsed = (text.len() <= MAX_LENGTH).then(|| semver::Version::parse(text).ok());
        parsed.flatten().map(Self)
    }

    /// Parses the version that a device reports, which may have a leading `v`.
    #[must_use]
    pub fn of_device(text: &str) -> Option<Self> {
        let text = text.trim();
        Self::parse(text.strip_prefix(['v', 'V']).unwrap_or(text))
    }

    /// Compares by semantic precedence, which ignores build metadata.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        self.0.cmp_precedence(&other.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a release is newer than what a device runs. A device whose version is unknown, or not a
/// semantic one, counts as older than every release, so that it can be brought to a known state.
#[must_use]
pub fn is_newer(release: &str, running: Option<&str>) -> bool {
    let Some(release) = Version::parse(release) else { return false };
    match running.and_then(Version::of_device) {
        Some(running) => release.precedence(&running) == Ordering::Greater,
        None => true,
    }
}

/// Whether a device runs a release, apart from a leading `v` and surrounding blanks.
#[must_use]
pub fn runs(running: Option<&str>, release: &str) -> bool {
    let Some(running) = running else { return false };
    running == release
        || Version::of_device(running).zip(Version::parse(release)).is_some_and(|(a, b)| a == b)
}

/// Whether a device runs something newer than a release. What can't be compared is not newer.
fn is_beyond(running: &str, release: &str) -> bool {
    let both = Version::of_device(running).zip(Version::parse(release));
    both.is_some_and(|(running, release)| running.precedence(&release) == Ordering::Greater)
}

/// Whether a device that ran a release has fallen back from it: it now reports the version from
/// before the update, or any that is not newer than the release.
///
/// A newer version means that it was updated by other means, and a heartbeat without a version
/// proves nothing; neither is a fallback.
#[must_use]
pub fn fell_back(release: &str, before: Option<&str>, running: Option<&str>) -> bool {
    let Some(reported) = running else { return false };
    let is_back = before.is_some_and(|before| runs(running, before));
    !runs(running, release) && (is_back || !is_beyond(reported, release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic_and_short() {
        for good in
            ["1.2.3", "1.2.3-rc.1", "1.2.3+build.7", "0.0.0", "1.0.0-abcdefghijklmnopqrstuvwxyz"]
        {
            assert!(Version::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.2",
            "v1.2.3",
            "1.2.3 ",
            " 1.2.3",
            "01.2.3",
            "1.2.3-",
            "../1.2.3",
            "1.2.3/..",
            "1.0.0-abcdefghijklmnopqrstuvwxyz0",
            "1.2.3\n",
            "1.2.3\0",
            "١.٢.٣",
        ] {
            assert!(Version::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn newer_is_by_semantic_precedence() {
        for (release, running, newer) in [
            ("1.10.0", Some("1.9.0"), true),
            ("1.9.0", Some("1.10.0"), false),
            ("1.2.0", Some("1.2.0"), false),
            ("1.2.0", Some("v1.2.0"), false),
            ("1.2.0", Some("1.2.0-rc.1"), true),
            ("1.2.0-rc.1", Some("1.2.0"), false),
            ("1.2.0+b", Some("1.2.0+a"), false),
            ("1.2.0", Some("dev-build"), true),
            ("1.2.0", None, true),
            ("nonsense", None, false),
        ] {
            assert_eq!(is_newer(release, running), newer, "{release} over {running:?}");
        }
        for (before, running, back) in [
            (Some("1.1.0"), Some("1.1.0"), true),
            (Some("1.1.0"), Some("v1.1.0"), true),
            (Some("1.1.0"), Some("1.0.0"), true),
            (None, Some("1.1.0"), true),
            (Some("1.1.0"), Some("dev-build"), true),
            (Some("1.1.0"), Some("1.2.0"), false),
            (Some("1.1.0"), Some("v1.2.0"), false),
            (Some("1.1.0"), Some("1.3.0"), false),
            (Some("1.1.0"), None, false),
            // The release was an older one than the device had.
            (Some("1.3.0"), Some("1.3.0"), true),
        ] {
            assert_eq!(fell_back("1.2.0", before, running), back, "{before:?}, {running:?}");
        }
        assert!(runs(Some("v1.2.0"), "1.2.0") && runs(Some("1.2.0"), "1.2.0"));
        assert!(
            !runs(Some("1.2.0+a"), "1.2.0") && !runs(None, "1.2.0") && !runs(Some("x"), "1.2.0")
        );
    }
}
