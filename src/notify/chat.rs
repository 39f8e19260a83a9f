//! What chats take: a message of theirs with a text in it, in place of our JSON. A row of
//! [`CHATS`] has all that tells one of them from the others.

use crate::model::notification::Format;

/// Stands for the text, as a JSON string, in a template.
const TEXT: &str = "$TEXT";

/// How one kind of chat wants its messages.
struct Chat {
    format: Format,
    /// The JSON that is sent.
    template: &'static str,
    /// Letters that would be markup or a mention, and what stands for them as they are. A pair
    /// of `""` stands for a backslash in front of the letter.
    escapes: &'static [(char, &'static str)],
    /// Letters that a message may have there, after escaping.
    letters_max: usize,
    /// Ends of the names of its hosts.
    hosts: &'static [&'static str],
}

const CHATS: [Chat; 3] = [
    Chat {
        format: Format::Slack,
        // Without mrkdwn, asterisks and underscores are themselves.
        template: r#"{"text":$TEXT,"mrkdwn":false}"#,
        escapes: &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")],
        letters_max: 4000,
        hosts: &["hooks.slack.com", "hooks.slack-gov.com"],
    },
    Chat {
        format: Format::Discord,
        template: r#"{"content":$TEXT,"allowed_mentions":{"parse":[]}}"#,
        escapes: MARKDOWN,
        letters_max: 2000,
        hosts: &["discord.com", "discordapp.com"],
    },
    Chat {
        format: Format::Teams,
        template: r#"{"type":"message","attachments":[{"contentType":"application/vnd.microsoft.card.adaptive","content":{"$schema":"http://adaptivecards.io/schemas/adaptive-card.json","type":"AdaptiveCard","version":"1.4","body":[{"type":"TextBlock","wrap":true,"text":$TEXT}]}}]}"#,
        escapes: MARKDOWN,
        letters_max: 20_000,
        hosts: &[
            ".webhook.office.com",
            ".logic.azure.com",
            ".api.powerplatform.com",
            ".powerautomate.com",
        ],
    },
];

/// The letters that Markdown takes for markup.
const MARKDOWN: &[(char, &str)] = &[
    ('\\', ""),
    ('*', ""),
    ('_', ""),
    ('~', ""),
    ('`', ""),
    ('|', ""),
    ('>', ""),
    ('<', ""),
    ('#', ""),
    ('[', ""),
    (']', ""),
    ('(', ""),
    (')', ""),
    ('@', ""),
];

/// The message of `format` that says `text`; `None` where that is our own JSON.
pub(super) fn message(format: Format, text: &str) -> Option<String> {
    let chat = CHATS.iter().find(|chat| chat.format == format)?;
    let text = serde_json::Value::from(chat.escaped(text)).to_string();
    Some(chat.template.replacen(TEXT, &text, 1))
}

/// The format that a chat at `host` takes; `None` where it is not known for a chat's.
pub(super) fn format_of_host(host: &str) -> Option<Format> {
    let host = host.to_ascii_lowercase();
    let is_at = |known: &&str| host == *known || known.starts_with('.') && host.ends_with(*known);
    CHATS.iter().find(|chat| chat.hosts.iter().any(&is_at)).map(|chat| chat.format)
}

impl Chat {
    /// `text` without markup and mentions, cut where a message must end.
    fn escaped(&self, text: &str) -> String {
        let (mut out, mut letters) = (String::with_capacity(text.len()), 0);
        for letter in text.chars() {
            let mut piece = String::new();
            match self.escapes.iter().find(|(escaped, _)| *escaped == letter) {
                Some((_, "")) => piece.extend(['\\', letter]),
                Some((_, instead)) => piece.push_str(instead),
                None => piece.push(letter),
            }
            // UTF-16, as the chats count.
            letters += piece.encode_utf16().count();
            if letters >= self.letters_max {
                out.push('…');
                break;
            }
            out.push_str(&piece);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn text_of(format: Format, text: &str) -> String {
        let place = match format {
            Format::Slack => "/text",
            Format::Discord => "/content",
            _ => "/attachments/0/content/body/0/text",
        };
        let sent: Value = serde_json::from_str(&message(format, text).unwrap()).unwrap();
        sent.pointer(place).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn each_chat_gets_its_own_form_with_the_text_as_it_is() {
        let text = "<!channel> *a* & \"b\"\n@everyone [x](y) $TEXT";
        assert_eq!(
            text_of(Format::Slack, text),
            "&lt;!channel&gt; *a* &amp; \"b\"\n@everyone [x](y) $TEXT"
        );
        let escaped =
            r#"\<!channel\> \*a\* & "b""#.to_owned() + "\n\\@everyone \\[x\\]\\(y\\) $TEXT";
        assert_eq!(text_of(Format::Discord, text), escaped);
        assert_eq!(text_of(Format::Teams, text), escaped);
        assert_eq!(message(Format::Json, text), None);
    }

    #[test]
    fn a_long_text_is_cut_between_letters_and_never_inside_an_escape() {
        for chat in &CHATS {
            for text in ["*".repeat(50_000), "é😀<".repeat(50_000)] {
                let escaped = text_of(chat.format, &text);
                assert!(escaped.encode_utf16().count() <= chat.letters_max);
                let kept = escaped.strip_suffix('…').unwrap();
                assert!(!kept.ends_with("\\\\") && !kept.ends_with("&l") && !kept.ends_with("&lt"));
            }
        }
    }

    #[test]
    fn chats_are_known_by_their_hosts() {
        for (host, expected) in [
            ("hooks.slack.com", Some(Format::Slack)),
            ("Discord.com", Some(Format::Discord)),
            ("prod-1.westus.logic.azure.com", Some(Format::Teams)),
            ("discord.com.example", None),
            ("logic.azure.com", None),
            ("hooks.example.com", None),
        ] {
            assert_eq!(format_of_host(host), expected, "{host}");
        }
    }
}
