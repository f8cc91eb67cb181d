//! The CGI front: one request from the environment and standard input, one response to standard
//! output (RFC 3875). The same limits as the HTTP front, as far as a CGI program can hold them:
//! slow clients are the web server's business.

use std::io::{self, Read, Write};

use crate::request::{Request, Response, reason_phrase};

/// The request that these CGI variables and this input describe; a refusal when there is none.
pub fn read_request(
    variable: impl Fn(&str) -> Option<String>,
    input: impl Read,
    max_body: usize,
) -> Result<Request, Response> {
    let Some(method) = variable("REQUEST_METHOD") else {
        return Err(Response::text(
            400,
            "REQUEST_METHOD is not set: this program is started by a web server as a CGI",
        ));
    };
    // A link named `upload` dispatches by its own name; PATH_INFO comes after it, if any.
    let path =
        variable("SCRIPT_NAME").unwrap_or_default() + &variable("PATH_INFO").unwrap_or_default();
    let too_large = || {
        let sentence =
            format!("the body is larger than {max_body} bytes, the limit MAXBODY of edeploy.conf");
        Response::text(413, &sentence)
    };
    let length = match variable("CONTENT_LENGTH").as_deref() {
        None | Some("") if method == "POST" => {
            return Err(Response::text(411, "the request says no Content-Length"));
        }
        None | Some("") => 0,
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse::<usize>().ok().filter(|length| *length <= max_body).ok_or_else(too_large)?
        }
        Some(_) => return Err(Response::text(400, "CONTENT_LENGTH is not a number")),
    };
    let mut body = Vec::new();
    let read = input.take(length as u64).read_to_end(&mut body);
    match read {
        Ok(count) if count == length => {}
        Ok(count) => {
            let sentence = format!("the body ends after {count} of {length} bytes");
            return Err(Response::text(400, &sentence));
        }
        Err(error) => {
            return Err(Response::text(400, &format!("the body cannot be read: {error}")));
        }
    }
    Ok(Request {
        method,
        path,
        content_type: variable("CONTENT_TYPE"),
        accept: variable("HTTP_ACCEPT"),
        peer: variable("REMOTE_ADDR").and_then(|address| address.parse().ok()),
        body,
    })
}

/// Writes the response as a CGI program does.
pub fn write_response(response: &Response, mut output: impl Write) -> io::Result<()> {
    let mut whole = format!(
        "Status: {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
        response.status,
        reason_phrase(response.status),
        response.content_type,
        response.body.len()
    )
    .into_bytes();
    if let Some(seconds) = response.retry_after {
        whole.extend(format!("Retry-After: {seconds}\r\n").into_bytes());
    }
    whole.extend(b"\r\n");
    whole.extend(&response.body);
    // At once: each part that is written by itself wakes the web server.
    output.write_all(&whole)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(variables: &[(&str, &str)], input: &str) -> Result<Request, Response> {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        read_request(find, input.as_bytes(), 10)
    }

    #[test]
    fn a_request_is_read_to_its_length() {
        let request = request(
            &[
                ("REQUEST_METHOD", "POST"),
                ("SCRIPT_NAME", "/cgi-bin/edeploy/upload"),
                ("CONTENT_LENGTH", "5"),
                ("REMOTE_ADDR", "10.0.2.15"),
            ],
            "hello and more",
        )
        .unwrap();
        assert_eq!(request.target(), "upload");
        assert_eq!(request.body, b"hello");
        assert_eq!(request.peer, "10.0.2.15".parse().ok());
    }

    #[track_caller]
    fn check_refused(variables: &[(&str, &str)], status: u16) {
        assert_eq!(request(variables, "hello").unwrap_err().status, status);
    }

    #[test]
    fn what_is_refused_and_how() {
        let post = ("REQUEST_METHOD", "POST");
        check_refused(&[], 400);
        check_refused(&[post], 411);
        check_refused(&[post, ("CONTENT_LENGTH", "11")], 413);
        check_refused(&[post, ("CONTENT_LENGTH", "-1")], 400);
        check_refused(&[post, ("CONTENT_LENGTH", "6")], 400);
    }

    #[test]
    fn a_response_names_its_status() {
        let mut output = Vec::new();
        write_response(&Response::text(503, "later"), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert!(text.starts_with("Status: 503 Service Unavailable\r\n"), "{text}");
        assert!(text.contains("Retry-After: 5\r\n") && text.ends_with("\r\n\r\nlater\n"), "{text}");
    }
}
