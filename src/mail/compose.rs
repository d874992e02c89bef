//! A message from its parts, as the SES `Simple` form and the templates give them.

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};

use super::MailError;
use super::message::{Envelope, LineEnds, Message, check_header};
use crate::base::Timestamp;

/// Most header fields a sender may add.
const EXTRA_HEADERS_MAX: usize = 50;

/// Header fields that come from other parts and may not be given a second time.
const OWN_FIELDS: [&str; 14] = [
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "return-path",
    "received",
];

/// The parts of a message.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Who writes.
    pub from: Mailbox,
    /// Where answers go, if elsewhere.
    pub reply_to: Vec<Mailbox>,
    /// Who it is for.
    pub to: Vec<Mailbox>,
    /// Who gets a copy.
    pub cc: Vec<Mailbox>,
    /// Who gets a copy nobody sees.
    pub bcc: Vec<Mailbox>,
    /// What it is about.
    pub subject: String,
    /// Plain text.
    pub text: Option<String>,
    /// HTML.
    pub html: Option<String>,
    /// Further header fields: name and value.
    pub headers: Vec<(String, String)>,
    /// Files.
    pub attachments: Vec<File>,
}

/// A file to attach.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its media type, such as `application/pdf`.
    pub content_type: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl Parts {
    /// Who sends and who gets the message, each recipient once.
    ///
    /// # Errors
    /// [`MailError::Missing`] without any recipient.
    pub fn envelope(&self) -> Result<Envelope, MailError> {
        let mut to: Vec<lettre::Address> = Vec::new();
        for mailbox in self.to.iter().chain(&self.cc).chain(&self.bcc) {
            if !to.contains(&mailbox.email) {
                to.push(mailbox.email.clone());
            }
        }
        if to.is_empty() {
            Err(MailError::Missing("recipient"))
        } else {
            Ok(Envelope { from: self.from.email.clone(), to })
        }
    }

    /// The message written out; `id` and `host` make its `Message-ID`.
    ///
    /// # Errors
    /// [`MailError::Header`] when a part could end its header field, [`MailError::Missing`] without any body.
    pub fn message(&self, now: Timestamp, id: &str, host: &str) -> Result<Message, MailError> {
        check_header("Subject", &self.subject)?;
        let mailboxes = [&self.to, &self.cc, &self.reply_to].into_iter().flatten().chain(std::iter::once(&self.from));
        for mailbox in mailboxes {
            check_header("address", mailbox.name.as_deref().unwrap_or_default())?;
        }
        let mut builder = lettre::Message::builder().from(self.from.clone()).subject(self.subject.clone());
        for mailbox in &self.to {
            builder = builder.to(mailbox.clone());
        }
        for mailbox in &self.cc {
            builder = builder.cc(mailbox.clone());
        }
        for mailbox in &self.reply_to {
            builder = builder.reply_to(mailbox.clone());
        }
        builder = builder.envelope(
            lettre::address::Envelope::new(Some(self.from.email.clone()), self.envelope()?.to)
                .map_err(|_no_recipient| MailError::Missing("recipient"))?,
        );
        if self.headers.len() > EXTRA_HEADERS_MAX {
            return Err(MailError::Malformed("it has more than 50 further header fields"));
        }
        for (name, value) in &self.headers {
            check_header(name, value)?;
            if OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
                let reason = "is written by Mainstay and cannot be given as a further field";
                return Err(MailError::Header { name: name.clone(), reason });
            }
            let refused = |_| MailError::Header { name: name.clone(), reason: "has a name that a field may not have" };
            builder = builder.raw_header(HeaderValue::new(
                HeaderName::new_from_ascii(name.clone()).map_err(refused)?,
                value.clone(),
            ));
        }
        let built = match self.body()? {
            Body::Single(part) => builder.singlepart(part),
            Body::Multi(part) => builder.multipart(part),
        };
        let built = built.map_err(|_incomplete| MailError::Malformed("its parts make no message"))?;
        Message::parse(&built.formatted(), LineEnds::Strict, now, id, host)
    }

    fn body(&self) -> Result<Body, MailError> {
        let text = self.text.clone().map(SinglePart::plain);
        let html = self.html.clone().map(SinglePart::html);
        let body = match (text, html) {
            (Some(text), Some(html)) => Body::Multi(MultiPart::alternative().singlepart(text).singlepart(html)),
            (Some(part), None) | (None, Some(part)) => Body::Single(part),
            (None, None) => return Err(MailError::Missing("text and no HTML body")),
        };
        if self.attachments.is_empty() {
            return Ok(body);
        }
        let mut mixed = match body {
            Body::Single(part) => MultiPart::mixed().singlepart(part),
            Body::Multi(part) => MultiPart::mixed().multipart(part),
        };
        for file in &self.attachments {
            check_header("Content-Disposition", &file.name)?;
            let kind = ContentType::parse(&file.content_type)
                .map_err(|_no_media_type| MailError::Malformed("an attachment has no valid media type"))?;
            mixed = mixed.singlepart(Attachment::new(file.name.clone()).body(file.content.clone(), kind));
        }
        Ok(Body::Multi(mixed))
    }
}

enum Body {
    Single(SinglePart),
    Multi(MultiPart),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::mailbox;

    fn parts() -> Parts {
        Parts {
            from: mailbox("Shop <shop@example.com>").unwrap(),
            reply_to: vec![],
            to: vec![mailbox("Ada <ada@example.com>").unwrap()],
            cc: vec![],
            bcc: vec![mailbox("eve@example.com").unwrap(), mailbox("ada@example.com").unwrap()],
            subject: "Grüße".to_owned(),
            text: Some("hello\n.\nthere".to_owned()),
            html: Some("<p>hello</p>".to_owned()),
            headers: vec![("List-Unsubscribe".to_owned(), "<https://example.com/u>".to_owned())],
            attachments: vec![],
        }
    }

    #[test]
    fn both_bodies_and_encoded_headers_are_written_and_bcc_is_not() {
        let message = parts().message(Timestamp(0), "id1", "example.com").unwrap();
        let text = String::from_utf8(message.bytes().to_vec()).unwrap();
        assert!(text.contains("Subject: =?utf-8?b?"), "{text}");
        assert!(text.contains("multipart/alternative") && text.contains("Message-ID: <id1@example.com>"), "{text}");
        assert!(!text.contains("eve@example.com"), "{text}");
        assert_eq!(parts().envelope().unwrap().to.len(), 2);
    }

    #[test]
    fn no_part_can_smuggle_a_header_field() {
        let inject = "x\r\nBcc: eve@example.com";
        let mut subject = parts();
        subject.subject = inject.to_owned();
        let mut field = parts();
        field.headers.push(("X-Note".to_owned(), inject.to_owned()));
        let mut name = parts();
        name.headers.push(("X\r\nBcc".to_owned(), "eve@example.com".to_owned()));
        let mut second = parts();
        second.headers.push(("bCC".to_owned(), "eve@example.com".to_owned()));
        let mut file = parts();
        file.attachments.push(File { name: inject.to_owned(), content_type: "text/plain".to_owned(), content: vec![] });
        for bad in [subject, field, name, second, file] {
            assert!(bad.message(Timestamp(0), "i", "h").is_err());
        }
    }

    #[test]
    fn attachments_are_encoded() {
        let mut parts = parts();
        let content = vec![0, 255, b'\r', b'.'];
        parts.attachments.push(File { name: "a.bin".to_owned(), content_type: "application/zip".to_owned(), content });
        let message = parts.message(Timestamp(0), "i", "h").unwrap();
        let text = String::from_utf8(message.bytes().to_vec()).unwrap();
        assert!(text.contains("AP8NLg==") && text.contains("filename=\"a.bin\""), "{text}");
    }

    #[test]
    fn a_message_needs_a_body_and_a_recipient() {
        let mut empty = parts();
        (empty.text, empty.html) = (None, None);
        assert!(matches!(empty.message(Timestamp(0), "i", "h"), Err(MailError::Missing(_))));
        let mut alone = parts();
        (alone.to, alone.bcc) = (vec![], vec![]);
        assert!(matches!(alone.envelope(), Err(MailError::Missing(_))));
    }
}
