//! Why a machine gets nothing, per profile, in words.
//!
//! Finding the line of a spec that failed takes longer than deciding, so it is left out of the
//! decision and told afterwards, when the world is not needed any more.

use std::sync::Arc;

use super::offer::No;
use crate::catalog::Catalog;
use crate::explain;
use crate::fleet::Refused;
use crate::matching::{Matcher, NoMatch};
use crate::units::Name;
use crate::wire::ProfileRefusal;

/// Why profiles did not match, not put in words yet.
#[derive(Debug, Clone)]
pub struct Untold {
    catalog: Arc<Catalog>,
    /// For each profile of the refusal, if that is why.
    no_match: Vec<Option<NoMatch>>,
}

impl Untold {
    /// What remains to be told of the profiles that were tried.
    pub(super) fn of(catalog: Arc<Catalog>, tried: Vec<(Name, Option<No>)>) -> Untold {
        let no_match = tried.into_iter().map(|(_, no)| match no {
            Some(No::Match(no)) => Some(no),
            _ => None,
        });
        Untold { catalog, no_match: no_match.collect() }
    }

    /// Puts it in words.
    pub fn tell(&self, matcher: &Matcher<'_>, refused: &mut Refused) {
        for (told, no) in refused.profiles.iter_mut().zip(&self.no_match) {
            if let (Some(no), Ok(profile)) = (no, told.profile.parse()) {
                told.reason = why(matcher, &self.catalog, &profile, no);
            }
        }
    }
}

/// The refusal of a machine that was tried on these profiles (`None`: none was wanted).
pub(super) fn refused(tried: &[(Name, Option<No>)]) -> Refused {
    let profiles = tried.iter().map(|(profile, no)| ProfileRefusal {
        profile: profile.to_string(),
        reason: match no {
            None => "skipped: its count in `state` is 0".to_owned(),
            // Told later.
            Some(No::Match(_)) => String::new(),
            Some(No::Specs(reason) | No::Left(reason) | No::Stop { reason, .. }) => reason.clone(),
        },
    });
    let profiles = profiles.collect();
    if let Some((_, Some(No::Stop { status, reason }))) = tried.last() {
        return Refused { status: *status, reason: reason.clone(), profiles };
    }
    let wanted = tried.iter().any(|(_, no)| no.is_some());
    let fitted = tried.iter().any(|(_, no)| matches!(no, Some(No::Left(_))));
    let (status, reason) = match (wanted, fitted) {
        (true, true) => (409, "the profiles that fit have no CMDB entry left"),
        (true, false) => (422, "no profile fits this machine"),
        (false, _) => (409, "no machine of any profile is wanted: every count is 0"),
    };
    Refused { status, reason: reason.to_owned(), profiles }
}

/// Where the specs of a profile fail, in one sentence.
pub(super) fn why(
    matcher: &Matcher<'_>,
    catalog: &Catalog,
    profile: &Name,
    no: &NoMatch,
) -> String {
    if *no == NoMatch::BudgetExhausted {
        // Looking for the line that failed would be as hopeless, at the same cost.
        return no.to_string();
    }
    let spec = catalog.profile(profile).and_then(|files| files.specs.good());
    match spec.map(|spec| (spec, explain::explain(matcher, spec))) {
        Some((spec, Ok(Some(mismatch)))) => mismatch.sentence(matcher, spec),
        _ => no.to_string(),
    }
}
