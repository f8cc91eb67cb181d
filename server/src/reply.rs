//! How replies are written: RON for agents, JSON for whoever asks for it, always complete.

use serde::Serialize;
use specs::fleet::{Answer, Refused};
use specs::units::Token;
use specs::wire::{CONTENT_TYPE, EventReply, PROTOCOL, Refusal, Reply, to_ron};

use crate::request::{RETRY_AFTER_SECONDS, Request, Response};

/// The response to an upload that was decided.
pub(crate) fn upload(request: &Request, answer: Answer, nonce: Option<Token>) -> Response {
    match answer {
        Answer::Plan { ticket, plan, .. } => {
            render(request, 200, &Reply::Plan { protocol: PROTOCOL, nonce, ticket, plan })
        }
        Answer::Installed { hostname, profile, disk, root, .. } => {
            let protocol = PROTOCOL;
            render(
                request,
                200,
                &Reply::Installed { protocol, nonce, hostname, profile, disk, root },
            )
        }
        // A failure report: the machine expects no more than that it was heard.
        Answer::Recorded { .. } => Response::text(200, "recorded"),
        Answer::Done(sentence) => Response::text(200, &sentence),
        Answer::Refused(refused) => refusal(request, refused, nonce),
    }
}

/// The response to events that were decided.
pub(crate) fn events(request: &Request, answer: Answer, nonce: Token) -> Response {
    match answer {
        Answer::Recorded { next, .. } => json(200, &EventReply { nonce, next }),
        Answer::Refused(refused) => refusal(request, refused, Some(nonce)),
        Answer::Plan { .. } | Answer::Installed { .. } | Answer::Done(_) => {
            Response::text(500, "events were answered with something else")
        }
    }
}

/// A refusal, with its reasons.
pub(crate) fn refusal(request: &Request, refused: Refused, nonce: Option<Token>) -> Response {
    let Refused { status, reason, profiles } = refused;
    render(request, status, &Reply::Refused(Refusal { status, nonce, reason, profiles }))
}

/// A refusal for one reason.
pub(crate) fn refuse(
    request: &Request,
    status: u16,
    reason: impl Into<String>,
    nonce: Option<Token>,
) -> Response {
    refusal(request, Refused { status, reason: reason.into(), profiles: Vec::new() }, nonce)
}

fn render(request: &Request, status: u16, reply: &Reply) -> Response {
    if request.wants_json() {
        return json(status, reply);
    }
    match to_ron(reply) {
        Ok(text) => Response {
            status,
            content_type: CONTENT_TYPE,
            retry_after: retry_after(status),
            body: text.into_bytes(),
        },
        Err(error) => Response::text(500, &format!("the reply cannot be written: {error}")),
    }
}

fn json<T: Serialize>(status: u16, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            let content_type = "application/json";
            Response { status, content_type, retry_after: retry_after(status), body }
        }
        Err(error) => Response::text(500, &format!("the reply cannot be written: {error}")),
    }
}

fn retry_after(status: u16) -> Option<u32> {
    matches!(status, 429 | 503).then_some(RETRY_AFTER_SECONDS)
}
