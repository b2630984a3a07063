//! A whole API over temporary stores, and requests to it without a socket.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use acuvim_control::{By, Changes, Control, StoredFirmware};
use acuvim_firmware_registry::{ImageStore, Sample, TokenKey, TrustedImages};
use acuvim_lakehouse::{Engine, EngineLimits, Lake, LakeOptions, Rows, TailBatch, WriteGuards};
use acuvim_log::{EmbeddedLog, EmbeddedOptions, Log};
use acuvim_model::{Firmware, FirmwareImage, NewDevice, NewKey, Role, Scope};
use acuvim_query_live::LiveLimits;
use acuvim_query_sql::SqlLimits;
use acuvim_tables::{
    dead_letters::DeadLetterRows,
    telemetry::{Decoder, Source},
};
use acuvim_wire::{DeadLetter, Position, Reason, record::RecordFacts, telemetry};
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Request, header},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::{
    auth::Jwt,
    checks::HostCheck,
    commands::CommandOptions,
    firmware::FirmwareOptions,
    middleware::HttpLimits,
    server,
    state::{Api, ApiOptions},
    status::{Status, System},
};

/// Bytes of the slot that a test's image must fit into.
pub const SLOT: u64 = 64 << 10;

/// The secret of access and download tokens.
pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// The address that requests come from.
pub const PEER: [u8; 4] = [192, 0, 2, 7];

/// An API over a temporary folder.
pub struct Server {
    pub dir: TempDir,
    pub control: Control,
    pub lake: Arc<Lake>,
    pub log: Arc<dyn Log>,
    pub api: Arc<Api>,
    pub jwt: Jwt,
    /// What `/readyz` says.
    pub status: Arc<Mutex<Status>>,
    /// Secrets of keys without a scope.
    pub viewer: String,
    pub operator: String,
    pub admin: String,
    router: Router,
    devices: Router,
    next_offset: Mutex<i64>,
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of a good answer.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The detail of a problem, which is checked to be one of this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem: Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().expect("a detail").to_owned()
    }

    /// The field that a 400 names.
    #[track_caller]
    pub fn field(&self) -> String {
        self.problem(400);
        let problem: Value = serde_json::from_slice(&self.body).expect("JSON");
        problem["errors"][0]["field"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Whoever sets up a test.
pub fn by() -> By {
    By::system(Utc::now())
}

/// An application that fits into the slot.
pub fn image(version: &str) -> Vec<u8> {
    Sample::application(version, 4096).bytes()
}

/// A release whose image nobody has stored.
pub fn release(version: &str) -> Firmware {
    let image = FirmwareImage {
        chip: "ESP32".to_owned(),
        project: None,
        app_version: None,
        idf_version: None,
        built_at: None,
    };
    Firmware {
        id: Uuid::now_v7(),
        version: version.to_owned(),
        filename: "logger.bin".to_owned(),
        file_size: 1,
        checksum: "00ff".repeat(16),
        hardware: None,
        mandatory: false,
        active: true,
        release_notes: None,
        image,
        manifest: None,
        warnings: Vec::new(),
        created_by: "admin".to_owned(),
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
    }
}

/// The same as it is stored.
pub fn stored_release(version: &str, object: &str) -> StoredFirmware {
    let firmware = release(version);
    StoredFirmware { firmware, object: object.to_owned(), manifest_expires: None }
}

fn engine() -> Engine {
    Engine::new(&EngineLimits::default()).expect("an engine")
}

async fn lake(dir: PathBuf) -> Lake {
    std::fs::create_dir(&dir).expect("a folder");
    let options = LakeOptions {
        url: url::Url::from_directory_path(dir).expect("a URL"),
        partitions: 1,
        epoch: 0,
        guards: WriteGuards::default(),
        max_ahead: telemetry::MAX_AHEAD,
    };
    let lake = Lake::open(options, engine()).await.expect("a lake");
    lake.follow(&[0].into()).await.expect("it follows");
    lake.own(0, true);
    lake
}

fn firmware(dir: &std::path::Path) -> FirmwareOptions {
    let url = url::Url::from_directory_path(dir.join("firmware")).expect("a URL");
    let store = ImageStore::open(&url).expect("a store");
    FirmwareOptions {
        images: TrustedImages::new(store, 1 << 20, Duration::ZERO),
        token_key: TokenKey::of(SECRET),
        base_url: "http://acuvim.example".to_owned(),
        slot: SLOT,
        chips: Vec::new(),
        public_keys: Vec::new(),
        require_signature: false,
        allow_bare_device_id: false,
        most_failures: 3,
        token_time: Duration::from_secs(3600),
        rollout_interval: Duration::from_millis(20),
        holder: "test".to_owned(),
    }
}

fn jwt() -> Jwt {
    Jwt::new(SECRET, "test", TimeDelta::hours(1), TimeDelta::days(7))
}

impl Server {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A server with other options.
    pub async fn with(change: impl FnOnce(&mut ApiOptions)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let control = Control::open_sqlite(&dir.path().join("control.db")).await.expect("control");
        let lake = Arc::new(Box::pin(lake(dir.path().join("lake"))).await);
        let options = EmbeddedOptions {
            partitions: 1,
            min_free_bytes: 0,
            ..EmbeddedOptions::at(dir.path().join("log"))
        };
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(options).await.expect("a log"));
        let status = Arc::new(Mutex::new(Status::default()));
        let shown = Arc::clone(&status);
        let mut options = ApiOptions {
            control: control.clone(),
            lake: Arc::clone(&lake),
            log: Arc::clone(&log),
            engine: lake.engine().clone(),
            limits: telemetry::Limits::default(),
            jwt: jwt(),
            initial_password: dir.path().join("initial_password"),
            sql: SqlLimits::default(),
            commands: CommandOptions::default(),
            http: HttpLimits { per_address: 0, per_user: 0, ..HttpLimits::default() },
            firmware: firmware(dir.path()),
            live: LiveLimits::default(),
            webhook_hosts: HostCheck(Arc::new(|host| {
                (host == "10.0.0.1").then(|| "not public".to_owned())
            })),
            system: System {
                status: Arc::new(move || shown.lock().expect("a status").clone()),
                metrics: Arc::new(|| "acuvim_up 1\n".to_owned()),
            },
        };
        change(&mut options);
        let api = Api::new(options).expect("an API");
        let router = server::api_router(&api);
        let devices = server::device_router(&api);
        let mut server = Self {
            dir,
            control,
            lake,
            log,
            api,
            jwt: jwt(),
            status,
            viewer: String::new(),
            operator: String::new(),
            admin: String::new(),
            router,
            devices,
            next_offset: Mutex::new(0),
        };
        server.viewer = server.key(Role::Viewer, None).await;
        server.operator = server.key(Role::Operator, None).await;
        server.admin = server.key(Role::Admin, None).await;
        server
    }

    /// The secret of a new key.
    pub async fn key(&self, role: Role, scope: Option<Scope>) -> String {
        let new = NewKey { name: "test".to_owned(), role, scope, expires_at: None };
        self.control.create_key(&new, &by()).await.expect("a key").secret
    }

    /// The secret of a new key that sees these devices.
    pub async fn scoped(&self, role: Role, devices: &[&str]) -> String {
        let device_ids = devices.iter().map(|id| (*id).to_owned()).collect();
        self.key(role, Some(Scope { device_ids, group_ids: Vec::new() })).await
    }

    /// Makes a device, and answers with its secret.
    pub async fn device(&self, id: &str) -> String {
        let new: NewDevice =
            serde_json::from_value(serde_json::json!({ "device_id": id })).expect("a device");
        match self.control.create_device(&new, &by()).await.expect("control answers") {
            acuvim_control::Created::Done(created) => created.credentials.password,
            _ => panic!("{id} is there already"),
        }
    }

    /// Brings a message of a device to the tail, as the stream would, and answers with its offset. One that
    /// can't be decoded becomes a dead letter.
    pub fn telemetry(&self, device_id: &str, payload: &str) -> i64 {
        let mut next = self.next_offset.lock().expect("an offset");
        let payload = Bytes::from(payload.to_owned());
        let facts = RecordFacts {
            device_id,
            kind: "telemetry",
            topic: "acuvim/d/telemetry",
            received_at: Utc::now().timestamp_micros(),
            epoch: 0,
            position: Position { partition: 0, offset: *next },
        };
        let (mut decoder, mut dead) =
            (Decoder::new(telemetry::Limits::default(), Arc::default()), DeadLetterRows::default());
        let mut bad = false;
        let source = Source { facts, payload: &payload, resolved_ts: None };
        decoder.push(&source, &mut |_| bad = true);
        if bad {
            dead.push(&facts, &DeadLetter::whole(Reason::NotJson, None, 0, payload.clone()));
        }
        let rows = Rows {
            telemetry: decoder.finish().expect("rows").rows,
            dead_letters: dead.finish().expect("rows"),
            ..Rows::none()
        };
        let from = *next;
        *next += 1;
        self.lake.push(0, TailBatch { from, next: *next, rows }).expect("a batch");
        from
    }

    /// Has a device raise an alert itself, and answers with the alert's id.
    pub async fn alert(&self, device_id: &str, alert_type: &str) -> String {
        let now = Utc::now();
        let alert = serde_json::json!({ "ts": now, "type": alert_type, "severity": "critical" });
        let alert = serde_json::from_value(alert).expect("an alert");
        let device_alerts = vec![(device_id.to_owned(), alert, now)];
        let changes = Changes { device_alerts, now, ..Changes::default() };
        self.control.apply(0, &changes).await.expect("control answers");
        let path = format!("/api/alerts?device_id={device_id}&type={alert_type}");
        let listed = self.get(&self.viewer, &path).await.json();
        listed["items"][0]["id"].as_str().expect("an alert").to_owned()
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        answer(self.router.clone(), request).await
    }

    /// Sends a request to the listener for devices.
    pub async fn send_device(&self, request: Request<Body>) -> Answer {
        answer(self.devices.clone(), request).await
    }

    /// A request with a key, and with a JSON body if there is one.
    pub async fn ask(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header("x-api-key", key);
        }
        let body = match body {
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(json.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).expect("a request")).await
    }

    pub async fn get(&self, key: &str, path: &str) -> Answer {
        self.ask(key, "GET", path, None).await
    }

    pub async fn post(&self, key: &str, path: &str, body: Value) -> Answer {
        self.ask(key, "POST", path, Some(body)).await
    }

    pub async fn put(&self, key: &str, path: &str, body: Value) -> Answer {
        self.ask(key, "PUT", path, Some(body)).await
    }

    pub async fn patch(&self, key: &str, path: &str, body: Value) -> Answer {
        self.ask(key, "PATCH", path, Some(body)).await
    }

    pub async fn delete(&self, key: &str, path: &str) -> Answer {
        self.ask(key, "DELETE", path, None).await
    }
}

async fn answer(router: Router, mut request: Request<Body>) -> Answer {
    let peer = SocketAddr::from((PEER, 4000));
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}
