//! Mails, by SMTP.

use std::time::Duration;

use acuvim_control::DueNotice;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    address::Envelope,
    message::{Mailbox, header::ContentType},
    transport::smtp::response::Response,
};

use super::{message::text_of, send::Attempt};

type Server = AsyncSmtpTransport<Tokio1Executor>;

/// Sends mails, where a server is set.
pub(super) struct Mailer {
    server: Option<Server>,
    from: Mailbox,
    timeout: Duration,
}

impl Mailer {
    /// By the server at a URL.
    pub fn new(url: Option<&str>, from: &str, timeout: Duration) -> Result<Self, String> {
        let from = from.parse().map_err(|_| format!("`{from}` is not a mail address"))?;
        let server = match url {
            Some(url) => {
                let server = Server::from_url(url)
                    .map_err(|error| format!("the mail server's URL: {error}"))?;
                Some(server.timeout(Some(timeout)).build())
            }
            None => None,
        };
        Ok(Self { server, from, timeout })
    }

    /// Makes one attempt.
    pub async fn send(&self, notice: &DueNotice) -> Attempt {
        let Some(server) = &self.server else {
            return Attempt::Later("no mail server is set: notifications.smtp_url".to_owned());
        };
        let message = match self.message(notice) {
            Ok(message) => message,
            Err(reason) => return Attempt::Never(reason),
        };
        match tokio::time::timeout(self.timeout, hand_over(server, &message)).await {
            Ok(outcome) => outcome,
            Err(_) => Attempt::Later("the mail server did not answer in time".to_owned()),
        }
    }

    fn message(&self, notice: &DueNotice) -> Result<Message, String> {
        // A subject is a line.
        let subject: String =
            notice.title.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        let host = self.from.email.domain();
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            // The same at every attempt, so that a mail that comes twice is seen as one.
            .message_id(Some(format!("<{}@{host}>", notice.id)))
            .header(ContentType::TEXT_PLAIN);
        for to in &notice.notification.body.to {
            message =
                message.to(to.parse().map_err(|_| format!("`{to}` is not a mail address"))?);
        }
        message.body(text_of(notice)).map_err(|error| error.to_string())
    }
}

/// Hands a mail to the server. Where it refuses one of several addresses for good, each is tried
/// alone, so that the others are told; where it refuses all, that may be a password that somebody is
/// about to set right.
async fn hand_over(server: &Server, message: &Message) -> Attempt {
    let (envelope, mail) = (message.envelope(), message.formatted());
    let first = match server.send_raw(envelope, &mail).await {
        Ok(answer) => return Attempt::Taken(said(&answer)),
        Err(error) if error.is_permanent() && envelope.to().len() > 1 => error.to_string(),
        Err(error) => return Attempt::Later(error.to_string()),
    };
    let (mut taken, mut refused) = (None, Vec::new());
    for to in envelope.to() {
        let alone = Envelope::new(envelope.from().cloned(), vec![to.clone()]);
        let Ok(alone) = alone else { continue };
        match server.send_raw(&alone, &mail).await {
            Ok(answer) => taken = Some(said(&answer)),
            Err(error) => refused.push(format!("{to}: {error}")),
        }
    }
    match taken {
        Some(answer) if refused.is_empty() => Attempt::Taken(answer),
        Some(answer) => Attempt::Taken(format!("{answer}; not to {}", refused.join(", "))),
        None => Attempt::Later(first),
    }
}

fn said(answer: &Response) -> String {
    answer.message().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::tests::notice;
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
}
