//! Every kind of finding, once: its stable name, and what it means.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($code:ident $name:literal $meaning:literal)*) => {
        /// The kind of a finding. Its name is part of what `--json` prints, and stays.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $code,)*
        }

        impl Code {
            /// All kinds there are.
            pub const ALL: &[Code] = &[$(Code::$code,)*];

            /// Its name, for example `literal-syntax`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$code => $name,)*
                }
            }

            /// What it means, in a few words.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Code::$code => $meaning,)*
                }
            }
        }
    };
}

codes! {
    FileEncoding "file-encoding" "a byte that is not UTF-8"
    LiteralSyntax "literal-syntax" "a specs, CMDB, state or facts file holds something that is no literal"
    LiteralTooLarge "literal-too-large" "a file of more than 256 MiB"
    FactsJson "facts-json" "facts that begin as JSON and do not go on so"
    FactsShape "facts-shape" "something other than a list of (class, name, key, value)"
    FactsTooLarge "facts-too-large" "facts of more than 16 MiB"
    SpecShape "spec-shape" "something other than a list of lines with four columns"
    SpecSyntax "spec-syntax" "a variable or function that cannot be read"
    SpecFunction "spec-function" "a text that looks like a function and is none"
    StateShape "state-shape" "something other than a list of (profile, count)"
    StateName "state-name" "a name that no profile can have"
    StateCount "state-count" "a count that is none"
    StateTwice "state-twice" "a profile that stands in `state` twice"
    CmdbShape "cmdb-shape" "something other than a list of entries or `generate({…})`"
    CmdbNested "cmdb-nested" "a value of an entry that is a mapping or holds one"
    CmdbGenerate "cmdb-generate" "a template from which no list can be made"
    ConfigurePython "configure-python" "a configure script of the original"
    ConfigureSyntax "configure-syntax" "a configure file that is not RON, or has fields that do not exist"
    ConfigureValue "configure-value" "a field given twice, or a number that would be read as another"
    Template "template" "a `{{ … }}` that cannot be read"
    CheckMissingFile "check-missing-file" "a file that is needed and not there"
    CheckUnlisted "check-unlisted" "a file of a profile that `state` does not name"
    CheckCount "check-count" "more machines wanted than the CMDB has free entries"
    CheckUnbound "check-unbound" "a variable in configure that nothing binds"
    CheckUnused "check-unused" "a variable that is bound for nothing"
    CheckClash "check-clash" "two variables that templates cannot tell apart"
    CheckDuplicate "check-duplicate" "an address or host name that two entries have"
    CheckDuplicateKey "check-duplicate-key" "two entries with the same `$$` values"
    CheckNetwork "check-network" "a gateway outside the network of its address"
    CheckNever "check-never" "a spec line that nothing can satisfy"
    CheckOrder "check-order" "a profile behind one that takes its machines first"
    CheckUnreachable "check-unreachable" "a profile that no machine ever gets"
    CheckComment "check-comment" "a comment that is lost while a machine holds the entry"
    CheckUsed "check-used" "a mark `used` that disagrees with the machines on record"
    IdsTable "ids-table" "something other than `uids = {…}` and `gids = {…}`"
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
