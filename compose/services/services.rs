//! Real Kafka, Mosquitto, PostgreSQL and S3 for tests: started in a folder of the test and ended with it,
//! or shared by all tests of a run. A service that can't be started fails the test.

#![allow(dead_code, reason = "each test crate uses some of it")]

use std::{
    hash::BuildHasher as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub const S3_KEY: &str = "acuvim";
pub const S3_SECRET: &str = "acuvim-secret";

pub struct Services {
    dir: Folder,
}

enum Folder {
    Own(tempfile::TempDir),
    /// Names the folder of the services that `./dev test` has started for all tests.
    OfRun(PathBuf),
}

impl Services {
    /// Services of the test's own, which it may kill.
    pub fn new() -> Self {
        Self { dir: Folder::Own(tempfile::tempdir().expect("a folder")) }
    }

    /// The shared Kafka, PostgreSQL and S3, on which a test uses names of its own; new services if the test
    /// runs alone.
    pub fn of_run() -> Self {
        match std::env::var_os("ACUVIM_TEST_SERVICES") {
            Some(dir) => Self { dir: Folder::OfRun(dir.into()) },
            None => Self::new(),
        }
    }

    pub fn dir(&self) -> &Path {
        match &self.dir {
            Folder::Own(dir) => dir.path(),
            Folder::OfRun(dir) => dir,
        }
    }

    /// A unique name for topics, databases and prefixes.
    pub fn unique_name() -> String {
        let id: u64 = std::collections::hash_map::RandomState::new().hash_one(std::process::id());
        format!("t{id:016x}")
    }

    /// Creates a database; returns its URL.
    pub fn database(&self) -> String {
        let url = self.postgres();
        let file = self.dir().join("postgres.url");
        if !file.exists() {
            std::fs::write(file, format!("{url}\n")).expect("written");
        }
        self.script(&["database", &self.path(), &Self::unique_name()])
    }

    /// Starts one broker or three; returns `host:port,...`.
    pub fn kafka(&self, brokers: u32) -> String {
        self.part("kafka", &["kafka", &self.path(), &brokers.to_string()])
    }

    /// Starts one broker that accepts only the user `acuvim` with the password `secret`.
    pub fn kafka_with_login(&self) -> String {
        self.script_with(&["kafka", &self.path(), "1"], &[("KAFKA_LOGIN", "1")])
    }

    /// `host:port`.
    pub fn mosquitto(&self) -> String {
        self.script(&["mosquitto", &self.path()])
    }

    /// A `postgres://` URL.
    pub fn postgres(&self) -> String {
        self.part("postgres", &["postgres", &self.path()])
    }

    /// An `http://` endpoint.
    pub fn s3(&self) -> String {
        self.part("s3", &["s3", &self.path()])
    }

    /// Kills a service by SIGKILL: `kafka-2`, `mosquitto`, `postgres`, `s3`.
    pub fn kill(&self, part: &str) {
        self.signal(part, "-KILL");
    }

    /// Pauses a service by SIGSTOP: it accepts connections and does not answer.
    pub fn pause(&self, part: &str) {
        self.signal(part, "-STOP");
    }

    pub fn resume(&self, part: &str) {
        self.signal(part, "-CONT");
    }

    /// Restarts killed services with their data and addresses.
    pub fn again(&self, parts: &[&str]) {
        self.script(&[&["again", &self.path()], parts].concat());
    }

    /// The address of a service; it is started unless it is shared.
    fn part(&self, name: &str, args: &[&str]) -> String {
        match &self.dir {
            Folder::Own(_) => self.script(args),
            Folder::OfRun(dir) => {
                let file = dir.join(format!("{name}.url"));
                let url = std::fs::read_to_string(&file);
                url.unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().to_owned()
            }
        }
    }

    fn signal(&self, part: &str, signal: &str) {
        assert!(matches!(self.dir, Folder::Own(_)), "other tests need {part} too");
        let pid = std::fs::read_to_string(self.dir().join(format!("{part}.pid"))).expect("pid");
        let pid = pid.trim();
        // PostgreSQL's processes for single connections are in process groups of their own.
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
        self.dir().to_str().expect("a path").to_owned()
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
        if let Folder::Own(_) = self.dir {
            let _ = Command::new(script()).args(["stop", &self.path()]).status();
        }
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("workspace")
        .join("compose/services/services.sh")
}
