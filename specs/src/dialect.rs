//! The one dialect of RON in which every typed file, record and reply is read and written.
//!
//! It stands alone because both configure files and the wire need it, and the wire knows plans,
//! which are made of configure files.

use serde::Serialize;

/// The options with which every file and reply of this project is read and written as RON.
pub fn ron_options() -> ron::Options {
    use ron::extensions::Extensions;
    ron::Options::default()
        .with_default_extension(Extensions::IMPLICIT_SOME)
        .with_default_extension(Extensions::UNWRAP_NEWTYPES)
        .with_default_extension(Extensions::UNWRAP_VARIANT_NEWTYPES)
}

/// Writes a value as readable RON, with the options of [`ron_options`].
pub fn to_ron<T: Serialize>(value: &T) -> Result<String, ron::Error> {
    ron_options()
        .to_string_pretty(value, ron::ser::PrettyConfig::new().struct_names(false))
        .map(|text| text + "\n")
}
