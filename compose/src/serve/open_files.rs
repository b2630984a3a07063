//! The limit of open files. Connections count as open files, and so do the log's segments and the
//! lake's files. A part of the limit is reserved for the latter, so that many clients can't make a
//! flush fail.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::{Role, Settings};

/// Files for log, lake, control and temporary files; half of the limit if that is small.
const RESERVED: u64 = 1024;

/// Raises the limit as far as the system allows, and lowers the settings of connections to fit it.
pub fn raise_limit(settings: &mut Settings) {
    let limit = raised();
    let wanted = wanted(settings);
    let room = room(limit);
    if wanted <= room {
        tracing::info!(limit, connections = wanted, "open files");
        return;
    }
    let fits = |connections: usize| fit(connections, wanted, room);
    settings.mqtt.max_connections = fits(settings.mqtt.max_connections);
    settings.http.max_connections = fits(settings.http.max_connections);
    settings.live.max_connections = fits(settings.live.max_connections);
    tracing::warn!(
        limit,
        mqtt = settings.mqtt.max_connections,
        http = settings.http.max_connections,
        live = settings.live.max_connections,
        "the limit of open files is too low for mqtt.max_connections, http.max_connections and \
         live.max_connections, which are lower now: allow {} (ulimit -n, or LimitNOFILE= of systemd)",
        wanted + 2 * RESERVED
    );
}

/// Sets the limit to its allowed maximum and returns it.
fn raised() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` stands for no limit.
    let highest = maximum.unwrap_or(u64::MAX);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    match raised {
        Ok(()) => highest,
        Err(_) => current.unwrap_or(highest),
    }
}

fn wanted(settings: &Settings) -> u64 {
    let takes_devices = settings.mqtt.url.is_none()
        && settings.process.roles().is_ok_and(|roles| roles.contains(&Role::Ingest));
    let mqtt = if takes_devices { settings.mqtt.max_connections } else { 0 };
    let all = mqtt + settings.http.max_connections + settings.live.max_connections;
    u64::try_from(all).unwrap_or(u64::MAX)
}

/// Files that are left for connections.
const fn room(limit: u64) -> u64 {
    let half = limit / 2;
    if half < RESERVED { half } else { limit - RESERVED }
}

/// A number of connections, reduced by the same factor as all others; at least one.
fn fit(connections: usize, wanted: u64, room: u64) -> usize {
    let share = connections as u64 * room / wanted.max(1);
    usize::try_from(share).unwrap_or(connections).clamp(1, connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_log_and_lake() {
        assert_eq!(room(1 << 20), (1 << 20) - RESERVED);
        assert_eq!(room(20_000), 20_000 - RESERVED);
        assert_eq!(room(1024), 512, "half of a small limit");
        let settings = Settings::built_in().expect("defaults");
        let wanted = wanted(&settings);
        assert_eq!(wanted, 18_000);
        let fits: usize = [12_000, 1000, 5000].map(|n| fit(n, wanted, room(1024))).iter().sum();
        assert!((500..=512).contains(&fits), "{fits}");
        assert_eq!(fit(12_000, wanted, wanted), 12_000);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let highest = getrlimit(Resource::Nofile).maximum;
        assert_eq!(Some(raised()), highest.or(Some(u64::MAX)));
        assert_eq!(getrlimit(Resource::Nofile).current, highest);
    }
}
