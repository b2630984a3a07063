//! How a command reports why it failed.

/// An error and its causes in one line. A cause is left out if the text before it has it already, as
/// errors whose messages are also logged alone do.
pub(crate) fn error_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_named_once() {
        let refused = std::io::Error::other("connection refused");
        let error = anyhow::Error::new(refused).context("PostgreSQL (connection refused)");
        let error = error.context("control");
        assert_eq!(error_line(&error), "control: PostgreSQL (connection refused)");
        let error = anyhow::anyhow!("connection refused").context("PostgreSQL");
        assert_eq!(error_line(&error), "PostgreSQL: connection refused");
    }
}
