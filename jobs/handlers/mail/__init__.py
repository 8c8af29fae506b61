"""Mail: from what a caller says to what a server is told, one file for each step.

    send_mail(Mail("ann@example.com", "Ready", text="..."), settings)

    message     what a mail is; every address and header checked
    attach      files of the blob store that go with it
    render      templates with a text and an HTML part
    transport   what every way out can do
    smtp ses resend outbox    the ways out; `pool` keeps connections of SMTP
    send        chooses the way and sends
    deliver     sends from a job: what is refused, put off and remembered

`SMTP_URL` says how mail leaves:

    smtp://user:password@host:587             with STARTTLS, since a password is sent
    smtp://host:25                            without encryption; `?starttls=1` asks for it
    smtps://user:password@host                encrypted from the start (port 465)
    ses://eu-central-1                        Amazon SES, with credentials as boto3 finds them
    .tickwork/outbox, file:///var/outbox      one `.eml` file for each mail
    console://                                printed on standard error

Without it `RESEND_API_KEY` means Resend; without both mail is printed in development, and kept in
`.tickwork/outbox` elsewhere. `?starttls=0` sends a password unencrypted, which is otherwise only
done to the machine itself; `?timeout=20` is how many seconds each step of the conversation may
take. Special characters in user and password are written as %XX. `EMAIL_FROM` is the sender.

A mail can arrive twice, when a runner dies between sending it and writing that down. Mails with
the same idempotency key carry the same Message-ID, so that most mailboxes show one; Resend sends
one, and the outbox keeps one file.
"""
