// The mails of the service: five to its users through SES, and notes shared with others over SMTP.

import { SESClient, SendEmailCommand } from '@aws-sdk/client-ses';
import nodemailer from 'nodemailer';

const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

// Subject and paragraphs for each occasion; a paragraph may be a link.
const MAILS = {
  welcome: (user) => [`Welcome, ${user}`, [`Hello ${user},`, 'your notes are waiting.']],
  verify: (user, { link }) => ['Verify your address', [`Hello ${user},`, 'please confirm that this address is yours:', { link }]],
  reset: (user, { link }) => ['Reset your password', [`Hello ${user},`, 'choose a new password here within the next hour:', { link }, 'Not you? Then nothing needs to be done.']],
  changed: (user) => ['Your password was changed', [`Hello ${user},`, 'your password was changed just now. Not you? Answer this mail.']],
  'signed-in': (user, { where }) => ['New sign-in', [`Hello ${user},`, `somebody signed in from ${where}.`, '.', 'Not you? Change your password.']],
};

export const OCCASIONS = Object.keys(MAILS);

/** Text and HTML of paragraphs. */
export function body(paragraphs) {
  const text = paragraphs.map((paragraph) => (typeof paragraph === 'string' ? paragraph : paragraph.link)).join('\n\n');
  const html = paragraphs.map((paragraph) => {
    if (typeof paragraph === 'string') return `<p>${escaped(paragraph)}</p>`;
    const link = escaped(paragraph.link);
    return `<p><a href="${link}">${link}</a></p>`;
  });
  return { text: `${text}\n`, html: html.join('\n') };
}

export const composed = (occasion, user, details) => {
  const [subject, paragraphs] = MAILS[occasion](user, details);
  return { subject, ...body(paragraphs) };
};

export function openMail({ ses, from, smtpUrl }) {
  const client = new SESClient(ses);
  const transport = nodemailer.createTransport(smtpUrl);
  return {
    /** Tells `user` about an occasion; the id of the mail. */
    async tell(occasion, user, address, details) {
      const { subject, text, html } = composed(occasion, user, details);
      const { MessageId } = await client.send(
        new SendEmailCommand({
          Source: `Notes <${from}>`,
          Destination: { ToAddresses: [address] },
          ReplyToAddresses: [from],
          Message: { Subject: { Data: subject, Charset: 'UTF-8' }, Body: { Text: { Data: text, Charset: 'UTF-8' }, Html: { Data: html, Charset: 'UTF-8' } } },
        }),
      );
      return MessageId;
    },

    /** Shares a note; nobody sees who gets it as `bcc`. */
    async share(note, user, { to, bcc }) {
      const { text, html } = body([`${user} shares a note with you:`, note.title, note.text]);
      await transport.sendMail({ from: `"${user} (Notes)" <${from}>`, to, bcc, subject: `Note: ${note.title}`, text, html });
    },

    close() {
      transport.close();
      client.destroy();
    },
  };
}
