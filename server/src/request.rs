//! What both fronts turn the outside into, and what they send back: nothing here knows a socket,
//! an environment variable or a file.

use std::net::IpAddr;

/// One complete request. Fronts make it only when head and body are within their limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, in upper case.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// `Content-Type`, when sent.
    pub content_type: Option<String>,
    /// `Accept`, when sent.
    pub accept: Option<String>,
    /// Who sent it, for the log.
    pub peer: Option<IpAddr>,
    /// The body, complete.
    pub body: Vec<u8>,
}

impl Request {
    /// What the request asks for: the last component of its path, so that `HTTP_PATH` may be
    /// anything (`/`, `/cgi-bin/`, `/cgi-bin/edeploy/`).
    pub fn target(&self) -> &str {
        self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    /// Whether the client asks for JSON rather than RON.
    pub fn wants_json(&self) -> bool {
        self.accept.as_deref().is_some_and(|accept| accept.contains("application/json"))
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Seconds after which the same request may succeed, with 429 and 503.
    pub retry_after: Option<u32>,
    /// The body.
    pub body: Vec<u8>,
}

/// Every content type that is ever answered.
pub const CONTENT_TYPES: [&str; 3] =
    ["text/plain; charset=utf-8", "application/json", specs::wire::CONTENT_TYPE];

impl Response {
    /// Plain text for people, ended by a newline.
    pub fn text(status: u16, sentence: &str) -> Response {
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            retry_after: matches!(status, 429 | 503).then_some(RETRY_AFTER_SECONDS),
            body: format!("{sentence}\n").into_bytes(),
        }
    }
}

/// What `Retry-After` says: soon enough that a machine is not kept waiting, late enough that a
/// hall of machines does not turn a busy second into a busy minute.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// The words that go with a status, for status lines.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Text from outside as it may be shown: control characters escaped, at most `limit` characters.
pub fn shown(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (position, character) in text.chars().enumerate() {
        if position == limit {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_path_component_is_the_target() {
        for (path, expected) in [
            ("/upload", "upload"),
            ("/cgi-bin/edeploy//upload", "upload"),
            ("/cgi-bin/upload.py", "upload.py"),
            ("/a/events/", "events"),
            ("/", ""),
        ] {
            let request = Request {
                method: "POST".into(),
                path: path.into(),
                content_type: None,
                accept: None,
                peer: None,
                body: Vec::new(),
            };
            assert_eq!(request.target(), expected, "{path}");
        }
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\n", 80), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown("abcdef", 3), "abc…");
    }
}
