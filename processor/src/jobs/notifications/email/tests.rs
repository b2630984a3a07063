use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::jobs::notifications::message::tests::notice;
use serde_json::json;

#[test]
fn a_title_is_a_subject_and_nothing_more() {
    let mailer = Mailer::new(None, "Acuvim <a@example.org>", Duration::from_secs(1));
    let mailer = mailer.expect("a mailer");
    let body = json!({"kind": "email", "to": ["ops@example.org"]});
    let mut one = notice(body, 1, 1);
    one.title = "bad\r\nBcc: eve@example.org".to_owned();
    let mail = mailer.message(&one).expect("a mail").formatted();
    let mail = String::from_utf8_lossy(&mail);
    let (headers, _) = mail.split_once("\r\n\r\n").expect("headers");
    assert!(!headers.to_lowercase().contains("\r\nbcc:"), "{headers}");
    assert!(headers.contains("To: ops@example.org"), "{headers}");
    assert!(Mailer::new(Some("http://x"), "a@b.c", Duration::from_secs(1)).is_err());
    assert!(Mailer::new(None, "nobody", Duration::from_secs(1)).is_err());
}

/// A mail server on this machine: what it answers to each recipient, and the commands that it got.
struct MailServer {
    url: String,
    got: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    /// `refuses` gives the answer to a recipient; `None` accepts it.
    async fn start(refuses: fn(&str) -> Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("smtp://{}", listener.local_addr().expect("an address"));
        let got = Arc::new(Mutex::new(Vec::new()));
        let commands = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, refuses, Arc::clone(&commands)));
            }
        });
        Self { url, got }
    }

    fn mailer(&self) -> Mailer {
        let timeout = Duration::from_secs(20);
        Mailer::new(Some(&self.url), "Acuvim <a@example.org>", timeout).expect("a mailer")
    }

    fn got(&self, prefix: &str) -> Vec<String> {
        let got = self.got.lock().expect("commands");
        got.iter().filter(|line| line.starts_with(prefix)).cloned().collect()
    }
}

/// Speaks as much SMTP as a client needs to hand over a mail.
async fn serve(
    stream: TcpStream,
    refuses: fn(&str) -> Option<&'static str>,
    got: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 here\r\n").await.ok()?;
    let mut is_data = false;
    while let Some(line) = lines.next_line().await.ok()? {
        got.lock().expect("commands").push(line.clone());
        let answer = match (is_data, line.as_str()) {
            (true, ".") => {
                is_data = false;
                "250 queued as 77"
            }
            (true, _) => continue,
            (false, "DATA") => {
                is_data = true;
                "354 go on"
            }
            (false, "QUIT") => "221 bye",
            (false, other) if other.starts_with("RCPT") => refuses(other).unwrap_or("250 ok"),
            (false, _) => "250 ok",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
    Some(())
}

fn mail_to(to: &[&str]) -> DueNotice {
    notice(json!({ "kind": "email", "to": to }), 1, 1)
}

#[tokio::test]
async fn a_mail_that_the_server_takes_is_delivered_with_its_answer() {
    let server = MailServer::start(|_| None).await;
    let attempt = server.mailer().send(&mail_to(&["ops@example.org", "night@example.org"])).await;
    assert_eq!(attempt, Attempt::Accepted("queued as 77".into()));
    assert_eq!(server.got("DATA").len(), 1, "one mail for both");
    let recipients = server.got("RCPT");
    assert_eq!(recipients, ["RCPT TO:<ops@example.org>", "RCPT TO:<night@example.org>"]);
    let ids = server.got("Message-ID:");
    assert_eq!(ids, ["Message-ID: <00000000-0000-0000-0000-000000000000@example.org>"]);
}

#[tokio::test]
async fn an_address_that_is_refused_does_not_keep_the_mail_from_the_others() {
    let server = MailServer::start(|to| to.contains("gone").then_some("550 no such user")).await;
    let attempt = server.mailer().send(&mail_to(&["gone@example.org", "ops@example.org"])).await;
    let Attempt::Accepted(answer) = &attempt else { panic!("{attempt:?}") };
    assert!(answer.starts_with("queued as 77; not to gone@example.org: "), "{answer}");
    assert!(answer.contains("no such user"), "{answer}");
}

#[tokio::test]
async fn a_refusal_of_everybody_is_tried_again() {
    for to in [&["a@example.org"][..], &["a@example.org", "b@example.org"]] {
        let server = MailServer::start(|_| Some("550 relaying denied")).await;
        let attempt = server.mailer().send(&mail_to(to)).await;
        assert!(matches!(&attempt, Attempt::Retry(why) if why.contains("denied")), "{attempt:?}");
        assert!(server.got("DATA").is_empty());
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_as_a_whole() {
    let server = MailServer::start(|to| to.contains("a@").then_some("451 try later")).await;
    let attempt = server.mailer().send(&mail_to(&["a@example.org", "b@example.org"])).await;
    assert!(matches!(&attempt, Attempt::Retry(why) if why.contains("later")), "{attempt:?}");
    assert!(server.got("DATA").is_empty(), "nobody would get the mail twice");
}

#[tokio::test]
async fn a_server_that_is_away_or_not_set_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("smtp://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let mailer = Mailer::new(Some(&url), "a@example.org", Duration::from_secs(20)).expect("it");
    let attempt = mailer.send(&mail_to(&["ops@example.org"])).await;
    assert!(matches!(attempt, Attempt::Retry(_)), "{attempt:?}");
    let none = Mailer::new(None, "a@example.org", Duration::from_secs(1)).expect("a mailer");
    let attempt = none.send(&mail_to(&["ops@example.org"])).await;
    assert!(matches!(&attempt, Attempt::Retry(why) if why.contains("smtp_url")), "{attempt:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("smtp://{}", listener.local_addr().expect("an address"));
    let mailer = Mailer::new(Some(&url), "a@example.org", Duration::from_millis(30)).expect("it");
    let attempt = mailer.send(&mail_to(&["ops@example.org"])).await;
    assert!(matches!(attempt, Attempt::Retry(_)), "{attempt:?}");
    drop(listener);
}

#[tokio::test]
async fn a_mail_without_a_valid_address_is_given_up() {
    let server = MailServer::start(|_| None).await;
    for to in [&["nobody"][..], &[]] {
        let attempt = server.mailer().send(&mail_to(to)).await;
        assert!(matches!(attempt, Attempt::Failed(_)), "{to:?}: {attempt:?}");
    }
    assert!(server.got("").is_empty(), "nothing was sent");
}

#[test]
fn a_subject_is_bounded_and_keeps_its_letters() {
    let mailer = Mailer::new(None, "a@example.org", Duration::from_secs(1)).expect("a mailer");
    let mut one = mail_to(&["ops@example.org"]);
    one.title = "x".repeat(5000);
    let mail = String::from_utf8(mailer.message(&one).expect("a mail").formatted()).expect("text");
    let (headers, _) = mail.split_once("\r\n\r\n").expect("headers");
    assert!(headers.len() < 1000, "{}", headers.len());
    one.title = "Überspannung".to_owned();
    let mail = mailer.message(&one).expect("a mail").formatted();
    let mail = String::from_utf8(mail).expect("text");
    let (headers, _) = mail.split_once("\r\n\r\n").expect("headers");
    assert!(headers.is_ascii(), "it is encoded: {headers}");
}

#[test]
fn settings_for_mail_are_checked_before_the_start() {
    let checked = |url: Option<&str>, from: &str| {
        let url = url.map(str::to_owned);
        NotifyOptions { smtp_url: url, smtp_from: from.to_owned(), ..NotifyOptions::default() }
            .check_mail()
    };
    assert_eq!(checked(None, "a@example.org"), Ok(()));
    assert_eq!(checked(Some("smtps://u:p@mail.example:465"), "A <a@example.org>"), Ok(()));
    assert_eq!(checked(None, "nobody"), Err("`nobody` is not a mail address".into()));
    let scheme = checked(Some("imap://mail.example"), "a@example.org").expect_err("no SMTP");
    assert!(scheme.starts_with("the mail server's URL: "), "{scheme}");
}
