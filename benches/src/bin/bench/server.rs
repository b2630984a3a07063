//! The binary under measurement, started on free ports.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use acuvim_simulator::mqtt::{ConnectOptions, Connection};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{
    args::{Args, PASSWORD},
    services::Deployment,
    usage::{Usage, usage_of},
};

/// The binary, started on free ports.
pub struct Server {
    child: Child,
    http: String,
    mqtt: SocketAddr,
    token: String,
    client: reqwest::Client,
}

impl Server {
    pub async fn start(
        args: &Args,
        deployment: &Deployment,
        name: &str,
        set: &[&str],
    ) -> anyhow::Result<Self> {
        let dir = args.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        deployment.reset()?;
        Self::start_again(args, deployment, name, set).await
    }

    pub async fn start_again(
        args: &Args,
        deployment: &Deployment,
        name: &str,
        set: &[&str],
    ) -> anyhow::Result<Self> {
        let dir = args.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        let (http_port, mqtt_port) = (free_port()?, free_port()?);
        let mut command = Command::new(&args.binary);
        command
            .args(["serve", "--http-listen", &format!("127.0.0.1:{http_port}")])
            .args(["--mqtt-listen", &format!("127.0.0.1:{mqtt_port}")])
            .args(["--set", "mqtt.websocket_listen=", "--set", "logging.level=warn"])
            // As high as can be and not off, so that what the limit itself costs is measured.
            .args(["--set", "mqtt.messages_per_client=1000000", "--data-dir"])
            .arg(&dir)
            .env("ACUVIM__ADMIN__PASSWORD", PASSWORD)
            .stdout(Stdio::null());
        for pair in deployment.settings(name).iter().map(String::as_str).chain(set.iter().copied())
        {
            command.args(["--set", pair]);
        }
        let child = command
            .spawn()
            .with_context(|| format!("{}: build it with ./dev bench", args.binary.display()))?;
        let client = reqwest::Client::new();
        let http = format!("http://127.0.0.1:{http_port}");
        let mqtt = deployment.mqtt(mqtt_port)?;
        let mut server = Self { child, http, mqtt, token: String::new(), client };
        server.log_in().await?;
        Ok(server)
    }

    async fn log_in(&mut self) -> anyhow::Result<()> {
        let url = format!("{}/api/auth/login", self.http);
        let body = json!({"username": "admin", "password": PASSWORD});
        for _ in 0..600 {
            // While the server starts, it answers other requests only.
            if let Ok(answer) = self.client.post(&url).json(&body).send().await
                && answer.status().is_success()
            {
                let answer: Value = answer.json().await?;
                self.token = answer
                    .pointer("/access_token")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the server does not answer")
    }

    pub async fn device(&self, n: u32) -> anyhow::Result<Connection> {
        let options = ConnectOptions {
            host: self.mqtt.ip().to_string(),
            port: self.mqtt.port(),
            client_id: format!("bench-{n}"),
            login: None,
            will: None,
            subscribe: None,
        };
        Ok(Connection::open(&options).await?)
    }

    /// A device that subscribes to its commands.
    pub async fn listening(&self, id: &str) -> anyhow::Result<Connection> {
        let options = ConnectOptions {
            host: self.mqtt.ip().to_string(),
            port: self.mqtt.port(),
            client_id: id.to_owned(),
            login: None,
            will: None,
            subscribe: Some(format!("acuvim/{id}/cmd")),
        };
        Ok(Connection::open(&options).await?)
    }

    /// The address of the API as host:port, and the admin's token.
    pub fn address_and_token(&self) -> (&str, &str) {
        (self.http.trim_start_matches("http://"), &self.token)
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.client.get(format!("{}{path}", self.http))).await
    }

    /// Saves the answer to a file; returns its number of lines.
    pub async fn save(&self, path: &str, file: &Path) -> anyhow::Result<usize> {
        let request = self.client.get(format!("{}{path}", self.http)).bearer_auth(&self.token);
        let mut answer = request.send().await?.error_for_status()?;
        let (mut file, mut lines) = (std::fs::File::create(file)?, 0);
        while let Some(chunk) = answer.chunk().await? {
            lines += chunk.iter().filter(|byte| **byte == b'\n').count();
            file.write_all(&chunk)?;
        }
        Ok(lines)
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.answer(self.client.post(format!("{}{path}", self.http)).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.answer(self.client.patch(format!("{}{path}", self.http)).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let request = self.client.delete(format!("{}{path}", self.http)).bearer_auth(&self.token);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// Uploads a firmware image.
    pub async fn upload(&self, version: &str, image: &[u8]) -> anyhow::Result<()> {
        let boundary = "acuvim-bench-boundary";
        let part = |name: &str| {
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n")
        };
        let mut body = format!("{}{version}\r\n{}", part("version"), part("file")).into_bytes();
        body.extend_from_slice(image);
        body.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
        let form = format!("multipart/form-data; boundary={boundary}");
        let url = format!("{}/api/firmware", self.http);
        self.answer(self.client.post(url).header("content-type", form).body(body)).await.map(|_| ())
    }

    /// Creates devices from a CSV; returns the CSV with their secrets.
    pub async fn import_devices(&self, csv: &str) -> anyhow::Result<String> {
        let url = format!("{}/api/devices/import", self.http);
        let request = self.client.post(url).bearer_auth(&self.token);
        let request = request.header("content-type", "text/csv").body(csv.to_owned());
        Ok(request.send().await?.error_for_status()?.text().await?)
    }

    /// A device's check for an update.
    pub fn check_firmware(
        &self,
        id: &str,
        secret: &str,
    ) -> impl Future<Output = anyhow::Result<Value>> + Send + 'static {
        let url = format!("{}/api/firmware/check", self.http);
        let request = self.client.get(url).basic_auth(id, Some(secret));
        async move { Ok(request.send().await?.error_for_status()?.json().await?) }
    }

    /// The number of items of a list on all pages.
    pub async fn total(&self, path: &str) -> anyhow::Result<i64> {
        let page = self.get(path).await?;
        page.pointer("/total").and_then(Value::as_i64).context("a page")
    }

    /// The sum of a metric over its labels.
    pub async fn sum_of_metric(&self, name: &str) -> anyhow::Result<f64> {
        let url = format!("{}/metrics", self.http);
        let metrics = self.client.get(url).send().await?.text().await?;
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// The resident memory.
    pub fn resident_mb(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        let kb: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok(kb / 1024)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let answer = request.bearer_auth(&self.token).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// One more login.
    pub fn login(&self) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
        let body = json!({"username": "admin", "password": PASSWORD});
        let request = self.client.post(format!("{}/api/auth/login", self.http)).json(&body);
        async move {
            request.send().await?.error_for_status()?;
            Ok(())
        }
    }

    pub async fn number(&self, query: &str, consistency: &str) -> anyhow::Result<i64> {
        let url = format!("{}/api/sql", self.http);
        let body = json!({"query": query, "consistency": consistency});
        let answer = self.client.post(url).bearer_auth(&self.token).json(&body).send().await?;
        let answer: Value = answer.json().await?;
        let number = answer.pointer("/rows/0/0").and_then(Value::as_i64);
        number.with_context(|| format!("{query}: {answer}"))
    }

    pub async fn wait_for_lake(&self, rows: i64) -> anyhow::Result<()> {
        while self.number("SELECT count(*) FROM telemetry", "lake").await? < rows {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Waits until a counter has reached a value.
    pub async fn wait_for_metric(&self, name: &str, want: u64) -> anyhow::Result<()> {
        loop {
            let url = format!("{}/metrics", self.http);
            let metrics = self.client.get(url).send().await?.text().await?;
            let line = metrics.lines().find(|line| line.starts_with(name));
            let got = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            if got.is_some_and(|got| got >= want as f64) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The bytes of all files of the newest version of `telemetry`.
    pub async fn lake_bytes(&self) -> anyhow::Result<u64> {
        let metrics =
            self.client.get(format!("{}/metrics", self.http)).send().await?.text().await?;
        let line = metrics
            .lines()
            .find(|l| l.starts_with("acuvim_lake_bytes{table=\"telemetry\"}"))
            .context("no acuvim_lake_bytes")?;
        let value = line.rsplit(' ').next().context("a value")?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
        Ok(value.parse::<f64>()? as u64)
    }

    /// CPU time so far and peak resident memory.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage_of(self.child.id())
    }

    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
