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
    use proptest::prelude::*;

    use super::*;

    /// Versions as releases have them, and what devices report besides.
    fn reported() -> impl Strategy<Value = String> {
        let part = || 0_u32..3;
        let tail = prop::sample::select(vec!["", "-rc.1", "-rc.2", "+a", "+b", "-rc.1+a"]);
        let version = (part(), part(), part(), tail)
            .prop_map(|(major, minor, patch, tail)| format!("{major}.{minor}.{patch}{tail}"));
        let odd = prop::sample::select(vec!["", "dev-build", "1.2", "latest", "v", "vv1.2.3"]);
        prop_oneof![6 => version, 1 => odd.prop_map(str::to_owned)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Otherwise two releases would update a device back and forth.
        #[test]
        fn of_two_releases_at_most_one_is_newer(a in reported(), b in reported()) {
            prop_assume!(Version::parse(&a).is_some() && Version::parse(&b).is_some());
            prop_assert!(!(is_newer(&a, Some(&b)) && is_newer(&b, Some(&a))));
            prop_assert!(!is_newer(&a, Some(&a)));
        }

        /// A device that runs the release has neither to be updated nor has it fallen back.
        #[test]
        fn what_runs_is_neither_older_nor_fallen_back(
            release in reported(), device in reported(), before in prop::option::of(reported()),
        ) {
            let before = before.as_deref();
            for device in [device.clone(), format!("v{device}"), format!(" {device} ")] {
                if Version::parse(&release).is_some() && runs(Some(&device), &release) {
                    prop_assert!(!is_newer(&release, Some(&device)), "{device}");
                    prop_assert!(!fell_back(&release, before, Some(&device)), "{device}");
                }
            }
        }

        /// Whatever a device reports that is older than the release is a fallback.
        #[test]
        fn an_older_version_is_always_a_fallback(release in reported(), device in reported()) {
            prop_assume!(Version::parse(&release).is_some());
            if is_newer(&release, Some(&device)) {
                prop_assert!(fell_back(&release, None, Some(&device)));
            }
        }

        #[test]
        fn no_text_panics_and_a_version_is_read_back(text in ".{0,40}", version in reported()) {
            let _ = (Version::parse(&text), Version::of_device(&text));
            let _ = (runs(Some(&text), &version), fell_back(&version, Some(&text), Some(&text)));
            if let Some(parsed) = Version::parse(&version) {
                prop_assert_eq!(parsed.to_string(), version.clone());
                prop_assert_eq!(Version::of_device(&format!("V{version}\n")), Some(parsed));
            }
        }
    }

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
