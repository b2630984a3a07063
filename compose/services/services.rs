//! Real Kafka, Mosquitto, PostgreSQL and S3 for a test, in a folder of its own; they end with it.
//! What can't be started fails the test.

#![allow(dead_code, reason = "each test crate uses some of it")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The user name, password and database of the PostgreSQL, and the key of the S3 server.
pub const S3_KEY: &str = "acuvim";
pub const S3_SECRET: &str = "acuvim-secret";

pub struct Services {
    dir: tempfile::TempDir,
}

impl Services {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `host:port,...` of one broker or of three.
    pub fn kafka(&self, brokers: u32) -> String {
        self.script(&["kafka", &self.path(), &brokers.to_string()])
    }

    /// The same, one broker that takes `acuvim` with the password `secret` alone.
    pub fn kafka_with_login(&self) -> String {
        self.script_with(&["kafka", &self.path(), "1"], &[("KAFKA_LOGIN", "1")])
    }

    /// `host:port`.
    pub fn mosquitto(&self) -> String {
        self.script(&["mosquitto", &self.path()])
    }

    /// A `postgres://` URL.
    pub fn postgres(&self) -> String {
        self.script(&["postgres", &self.path()])
    }

    /// An `http://` endpoint.
    pub fn s3(&self) -> String {
        self.script(&["s3", &self.path()])
    }

    /// SIGKILL for a part: `kafka-2`, `mosquitto`, `postgres`, `s3`.
    pub fn kill(&self, part: &str) {
        self.signal(part, "-KILL");
    }

    /// SIGSTOP: a part that is there and does not answer.
    pub fn pause(&self, part: &str) {
        self.signal(part, "-STOP");
    }

    pub fn resume(&self, part: &str) {
        self.signal(part, "-CONT");
    }

    /// Starts killed parts again, with their data, at their addresses.
    pub fn again(&self, parts: &[&str]) {
        self.script(&[&["again", &self.path()], parts].concat());
    }

    fn signal(&self, part: &str, signal: &str) {
        let pid =
            std::fs::read_to_string(self.dir.path().join(format!("{part}.pid"))).expect("pid");
        let pid = pid.trim();
        // PostgreSQL's servers of one connection each are in groups of their own.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.expect("it runs");
        let group = format!("-{pid}");
        let sent = Command::new("kill")
            .args([signal, "--", &group])
            .args(children.split_whitespace())
            .stderr(Stdio::null())
            .status()
            .expect("kill");
        assert!(sent.success() || !children.is_empty(), "{signal} {part}");
    }

    fn path(&self) -> String {
        self.dir.path().to_str().expect("a path").to_owned()
    }

    fn script(&self, args: &[&str]) -> String {
        self.script_with(args, &[])
    }

    fn script_with(&self, args: &[&str], environment: &[(&str, &str)]) -> String {
        let output = Command::new(script())
            .args(args)
            .envs(environment.iter().copied())
            .env("ACUVIM_SERVICES_OWNER", std::process::id().to_string())
            .stdin(Stdio::null())
            .output()
            .expect("services.sh runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "services.sh {args:?}: {said}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let _ = Command::new(script()).args(["stop", &self.path()]).status();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("workspace")
        .join("compose/services/services.sh")
}
