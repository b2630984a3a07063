//! Mails, by SMTP.

use std::time::Duration;

use acuvim_control::DueNotice;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};

use super::{message::text_of, send::Attempt};

/// Sends mails, where a server is set.
pub(super) struct Mailer {
    server: Option<AsyncSmtpTransport<Tokio1Executor>>,
    from: Mailbox,
}

impl Mailer {
    /// By the server at a URL.
    pub fn new(url: Option<&str>, from: &str, timeout: Duration) -> Result<Self, String> {
        let from = from.parse().map_err(|_| format!("`{from}` is not a mail address"))?;
        let server = match url {
            Some(url) => {
                let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
                    .map_err(|error| format!("the mail server's URL: {error}"))?;
                Some(server.timeout(Some(timeout)).build())
            }
            None => None,
        };
        Ok(Self { server, from })
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
        match server.send(message).await {
            Ok(answer) => Attempt::Taken(answer.message().collect::<Vec<_>>().join(" ")),
            Err(error) if error.is_permanent() => Attempt::Never(error.to_string()),
            Err(error) => Attempt::Later(error.to_string()),
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
