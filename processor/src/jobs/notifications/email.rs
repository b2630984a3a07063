//! Sends messages by mail, over SMTP.

use std::time::Duration;

use acuvim_control::DueNotice;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    address::Envelope,
    message::{Mailbox, header::ContentType},
    transport::smtp::response::Response,
};

use super::{attempt::Attempt, message::text_of};
use crate::options::NotifyOptions;

type Server = AsyncSmtpTransport<Tokio1Executor>;

/// Sends mails, if a server is set.
pub(super) struct Mailer {
    server: Option<Server>,
    from: Mailbox,
    timeout: Duration,
}

impl NotifyOptions {
    /// Checks the settings for mail without connecting to the server.
    ///
    /// # Errors
    /// The first setting that is not valid, and why.
    pub fn check_mail(&self) -> Result<(), String> {
        let url = self.smtp_url.as_deref();
        Mailer::new(url, &self.smtp_from, self.timeout).map(|_| ())
    }
}

impl Mailer {
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

    /// Makes one attempt to send a message.
    pub async fn send(&self, notice: &DueNotice) -> Attempt {
        let Some(server) = &self.server else {
            return Attempt::Retry("no mail server is set: notifications.smtp_url".to_owned());
        };
        let message = match self.message(notice) {
            Ok(message) => message,
            Err(reason) => return Attempt::Failed(reason),
        };
        match tokio::time::timeout(self.timeout, hand_over(server, &message)).await {
            Ok(outcome) => outcome,
            Err(_) => Attempt::Retry("the mail server did not answer in time".to_owned()),
        }
    }

    fn message(&self, notice: &DueNotice) -> Result<Message, String> {
        // A line break would end the header, and the text after it could pass for another one.
        let subject: String =
            notice.title.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        let host = self.from.email.domain();
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            // The same at every attempt, so that mail programs recognise a repetition.
            .message_id(Some(format!("<{}@{host}>", notice.id)))
            .header(ContentType::TEXT_PLAIN);
        for to in &notice.notification.body.to {
            message =
                message.to(to.parse().map_err(|_| format!("`{to}` is not a mail address"))?);
        }
        message.body(text_of(notice)).map_err(|error| error.to_string())
    }
}

/// Hands a mail to the server. If the server permanently refuses one of several addresses, each
/// address is tried alone, so that the others get the mail. A refusal of all of them is not final:
/// its cause may be the login, which can be corrected.
async fn hand_over(server: &Server, message: &Message) -> Attempt {
    let (envelope, mail) = (message.envelope(), message.formatted());
    let first = match server.send_raw(envelope, &mail).await {
        Ok(answer) => return Attempt::Accepted(text(&answer)),
        Err(error) if error.is_permanent() && envelope.to().len() > 1 => error.to_string(),
        Err(error) => return Attempt::Retry(error.to_string()),
    };
    let (mut accepted, mut refused) = (None, Vec::new());
    for to in envelope.to() {
        let alone = Envelope::new(envelope.from().cloned(), vec![to.clone()]);
        let Ok(alone) = alone else { continue };
        // The same bytes, so that all recipients see the same list of addresses.
        match server.send_raw(&alone, &mail).await {
            Ok(answer) => accepted = Some(text(&answer)),
            Err(error) => refused.push(format!("{to}: {error}")),
        }
    }
    match accepted {
        Some(answer) if refused.is_empty() => Attempt::Accepted(answer),
        Some(answer) => Attempt::Accepted(format!("{answer}; not to {}", refused.join(", "))),
        None => Attempt::Retry(first),
    }
}

fn text(answer: &Response) -> String {
    answer.message().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
