//! The built binary under test: its addresses, its log lines, its end. A WARN or ERROR line that a test
//! does not expect fails it.

use std::{
    fs::Permissions,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use acuvim_model::{LoginRequest, LoginResponse, SqlResponse};
use acuvim_simulator::mqtt::{ConnectOptions, Connection};
use serde_json::{Value, json};
use tokio::sync::broadcast;

pub const PASSWORD: &str = "correct horse battery staple";

/// Time limit of every wait. Only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The pause between two checks of a condition: an eighth of the time waited so far, so that a quick
/// result is noticed quickly, and a slow one costs a busy machine few checks.
pub async fn pause(begun: Instant) {
    let pause = (begun.elapsed() / 8).clamp(Duration::from_millis(20), Duration::from_secs(1));
    tokio::time::sleep(pause).await;
}

/// Waits for a log line that contains all of these words.
pub async fn logged(lines: &mut broadcast::Receiver<String>, words: &[&str]) {
    let wanted = async {
        loop {
            match lines.recv().await {
                Ok(line) if words.iter().all(|word| line.contains(word)) => return,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => panic!("the server ended"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("no {words:?}"));
}

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_acuvim")
}

pub struct Server {
    child: Child,
    pub http: String,
    pub mqtt: SocketAddr,
    pub websocket: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    stages: broadcast::Sender<String>,
    expected: Vec<&'static str>,
    token: Mutex<Option<String>>,
    pub client: reqwest::Client,
}

/// A server that is starting.
pub struct Starting {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    stages: broadcast::Sender<String>,
    said: broadcast::Receiver<String>,
}

impl Starting {
    /// Waits until it logs that it serves.
    pub async fn serving(mut self) -> Server {
        let serving = async {
            loop {
                let line = match self.said.recv().await {
                    Ok(line) => line,
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(_) => return None,
                };
                if line.contains("acuvim serves") {
                    return Some(serde_json::from_str::<Value>(&line).expect("a JSON line"));
                }
            }
        };
        let line = tokio::time::timeout(PATIENCE, serving).await.ok().flatten();
        let Some(line) = line else {
            panic!("no server: {:#?}", self.lines.lock().expect("lines"))
        };
        let fields = &line["fields"];
        let text = |name: &str| fields[name].as_str().expect(name).to_owned();
        // A process without the built-in broker has no such address.
        let address = |name: &str| text(name).parse().unwrap_or(([0, 0, 0, 0], 0).into());
        Server {
            child: self.child,
            http: format!("http://{}", text("http")),
            mqtt: address("mqtt"),
            websocket: address("websocket"),
            lines: self.lines,
            stages: self.stages,
            expected: Vec::new(),
            token: Mutex::default(),
            client: reqwest::Client::new(),
        }
    }

    /// Waits until it ends by itself; returns its last line.
    pub fn ended(mut self) -> String {
        let begun = Instant::now();
        while self.child.try_wait().expect("wait").is_none() {
            assert!(begun.elapsed() < PATIENCE, "{:#?}", self.lines.lock().expect("lines"));
            std::thread::sleep(Duration::from_millis(20));
        }
        // The thread that reads its lines may not have finished.
        std::thread::sleep(Duration::from_millis(100));
        self.lines.lock().expect("lines").last().cloned().unwrap_or_default()
    }
}

impl Server {
    /// Starts a server on a data directory, and waits until it serves.
    pub async fn start(dir: &Path, set: &[&str]) -> Self {
        Self::start_with(dir, set, &[]).await
    }

    /// The same with additional environment variables.
    pub async fn start_with(dir: &Path, set: &[&str], environment: &[(String, String)]) -> Self {
        let starting = Self::spawn(dir, set, environment);
        starting.serving().await
    }

    /// Starts a server without waiting.
    pub fn spawn(dir: &Path, set: &[&str], environment: &[(String, String)]) -> Starting {
        // The server warns of a directory that others can read.
        if dir.exists() {
            std::fs::set_permissions(dir, Permissions::from_mode(0o700)).expect("its rights");
        }
        let mut command = Command::new(binary());
        command
            .args(["serve", "--http-listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"])
            .args(["--mqtt-websocket-listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .args(["--set", "logging.format=json"])
            .args(["--set", "logging.level=info,acuvim_lakehouse=debug"])
            // The tests' readings have fixed times, which retention must not drop.
            .args(["--set", "telemetry.retention_days=36500"])
            .env("ACUVIM__ADMIN__PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.envs(environment.iter().cloned());
        for pair in set {
            command.args(["--set", pair]);
        }
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr");
        let (stages, said) = broadcast::channel(4096);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (to_lines, to_stages) = (Arc::clone(&lines), stages.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                to_lines.lock().expect("lines").push(line.clone());
                let _ = to_stages.send(line);
            }
        });
        Starting { child, lines, stages, said }
    }

    /// Allows WARN and ERROR lines with this text.
    pub fn expect(&mut self, text: &'static str) {
        self.expected.push(text);
    }

    pub fn stages(&self) -> broadcast::Receiver<String> {
        self.stages.subscribe()
    }

    /// The first line with this text.
    pub fn line(&self, text: &str) -> Value {
        let lines = self.lines.lock().expect("lines");
        let line = lines.iter().find(|line| line.contains(text)).expect(text);
        serde_json::from_str(line).expect("a JSON line")
    }

    /// Sends SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        self.check_lines();
    }

    /// Ends it by SIGTERM, which must succeed.
    pub async fn stop(mut self) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill -TERM");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(status.success(), "{status}: {:?}", self.lines.lock().expect("lines"));
        self.check_lines();
    }

    fn check_lines(&self) {
        for line in self.lines.lock().expect("lines").iter() {
            let loud = line.contains("\"level\":\"WARN\"") || line.contains("\"level\":\"ERROR\"");
            let loud = loud || line.contains("panicked at");
            let expected = self.expected.iter().any(|text| line.contains(text));
            assert!(!loud || expected, "unexpected: {line}");
        }
    }

    pub async fn device(&self, id: &str) -> Connection {
        Connection::open(&connect(self.mqtt, id)).await.expect("MQTT connection")
    }

    /// The admin's token.
    pub async fn token(&self) -> String {
        if let Some(token) = self.token.lock().expect("token").clone() {
            return token;
        }
        let login = LoginRequest { username: "admin".into(), password: PASSWORD.into() };
        let url = format!("{}/api/auth/login", self.http);
        let answer = self.client.post(url).json(&login).send().await.expect("login");
        let token = answer.json::<LoginResponse>().await.expect("a token").access_token;
        *self.token.lock().expect("token") = Some(token.clone());
        token
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        let token = self.token().await;
        let url = format!("{}{path}", self.http);
        self.client.get(url).bearer_auth(token).send().await.expect("an answer")
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        let token = self.token().await;
        let url = format!("{}{path}", self.http);
        self.client.post(url).bearer_auth(token).json(body).send().await.expect("an answer")
    }

    /// The answer to a query; waits while the tail is catching up.
    pub async fn sql(&self, query: &str) -> SqlResponse {
        self.ask(json!({"query": query})).await
    }

    pub async fn ask(&self, body: Value) -> SqlResponse {
        let begun = Instant::now();
        loop {
            let answer = self.post("/api/sql", &body).await;
            let status = answer.status();
            let text = answer.text().await.expect("a body");
            if status.is_success() {
                return serde_json::from_str(&text).expect("a SQL answer");
            }
            assert!(status == 503 && begun.elapsed() < PATIENCE, "{body}: {status} {text}");
            pause(begun).await;
        }
    }

    /// The number in the first row and column of an answer.
    pub async fn number(&self, query: &str) -> i64 {
        self.sql(query).await.rows[0][0].as_i64().expect("a number")
    }

    /// Repeats a query until it returns this number.
    pub async fn wait_for(&self, query: &str, want: i64) {
        let begun = Instant::now();
        loop {
            let got = self.number(query).await;
            if got == want {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{query}: {got}, not {want}");
            pause(begun).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(lines) = self.lines.lock()
        {
            let last = &lines[lines.len().saturating_sub(40)..];
            println!("the last lines of {}:\n{}", self.http, last.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn connect(at: SocketAddr, id: &str) -> ConnectOptions {
    ConnectOptions {
        host: at.ip().to_string(),
        port: at.port(),
        client_id: id.to_owned(),
        login: None,
        will: None,
        subscribe: None,
    }
}

/// 2026-05-01T00:00:00Z in milliseconds, where the tests' readings begin.
pub const T0: i64 = 1_777_593_600_000;

pub fn reading(ts_ms: i64) -> String {
    format!("{{\"ts\":{ts_ms},\"data\":{{\"voltage_l1_v\":230.4,\"frequency_hz\":50.01}}}}")
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

pub fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("procfs");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    let kb: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kb / 1024
}
