//! An HTTP client for a running server. It uses an API key, or logs in as the first admin while that
//! still has its initial password.

use std::time::Duration;

use acuvim_model::{LoginRequest, LoginResponse, problem::Problem};
use anyhow::{Context as _, bail};

use crate::{admin::PASSWORD_FILE, cli::ServerArgs};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of each read. Long, because an import answers only when its rows are stored.
const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// The server can't be reached or is overloaded; the same request may succeed later.
#[derive(Debug)]
pub struct Busy(String);

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Busy {}

/// A server and the credentials for it.
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    /// Logs in unless there is an API key.
    pub async fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let http =
            reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
        let (http, url) = (http.build()?, args.url.clone());
        let token = match &args.key {
            Some(key) => key.clone(),
            None => login(&http, args).await?,
        };
        Ok(Self { http, url, token })
    }

    /// Begins a POST request to a path.
    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// Sends the request; an answer that is no success becomes an error with the problem's text.
    pub async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<reqwest::Response> {
        answered(request, &self.url).await
    }
}

async fn login(http: &reqwest::Client, args: &ServerArgs) -> anyhow::Result<String> {
    let file = args.data_dir.join(PASSWORD_FILE);
    let password = std::fs::read_to_string(&file).with_context(|| {
        format!("give --key (or ACUVIM_KEY); there is no {} either", file.display())
    })?;
    let login = LoginRequest { username: "admin".to_owned(), password };
    let request = http.post(format!("{}/api/auth/login", args.url)).json(&login);
    Ok(answered(request, &args.url).await?.json::<LoginResponse>().await?.access_token)
}

async fn answered(
    request: reqwest::RequestBuilder,
    url: &str,
) -> anyhow::Result<reqwest::Response> {
    let answer = request.send().await.map_err(|error| {
        Busy(format!("no server answers at {url} (--url): {}", error.without_url()))
    })?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    if matches!(status.as_u16(), 429 | 503) {
        let problem = answer.json::<Problem>().await.map(|p| p.detail);
        let why = problem.unwrap_or_else(|_| status.to_string());
        return Err(Busy(format!("the server can't do it now: {why}")).into());
    }
    match answer.json::<Problem>().await {
        Ok(problem) => bail!("{}: {}", problem.title, problem.detail),
        Err(_) => bail!("the server answered {status}"),
    }
}
