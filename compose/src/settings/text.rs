//! Checks and forms of single values, shared by all sections.

use std::{fmt::Display, net::SocketAddr};

use anyhow::{anyhow, ensure};

/// The entries of a list that is separated by commas.
pub fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

/// Refuses a number out of its range. `default.toml` states the same range; a test compares them.
pub fn within<T: PartialOrd + Copy + Display>(
    name: &str,
    value: T,
    least: T,
    most: T,
) -> anyhow::Result<()> {
    ensure!(value >= least && value <= most, "{name} is {value}: allowed are {least} to {most}");
    Ok(())
}

/// An address to listen on.
pub fn address(name: &str, value: &str) -> anyhow::Result<SocketAddr> {
    value
        .parse()
        .map_err(|_| anyhow!("{name} is `{value}`: allowed is ADDRESS:PORT, as 127.0.0.1:5000"))
}

/// A URL without its password. Everything before the host is masked if the URL can't be parsed,
/// since any part of it may then be the password.
pub fn masked_url(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, host))) => {
            let user = rest.split([':', '@']).next().unwrap_or_default();
            format!("{scheme}://{user}:********@{host}")
        }
        (None, Some((_, host))) => format!("********@{host}"),
        (_, None) => text.to_owned(),
    }
}
