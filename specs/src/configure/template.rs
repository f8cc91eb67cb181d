//! Templates: single strings of a configure file, rendered after the file was parsed.
//!
//! Because only a string is ever rendered, a value cannot add a disk, a step or a field. It
//! could still add a *line* to a file, so a value that the machine itself reported may hold no
//! control character wherever it is used, and a value of the CMDB may hold them only in the
//! content of files and in arguments.
//!
//! A variable may be called `eth-mgmt`, which a template would read as a subtraction. It is
//! written `{{ eth_mgmt }}` or `{{ var["eth-mgmt"] }}`; the dashed form is an error that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Template, UndefinedBehavior};
use regex::Regex;

use crate::facts::Facts;
use crate::value::{Value, Variables};

/// How much a template may compute, in instructions of the engine: loops over a few hundred
/// items fit, runaway ones do not.
const FUEL: u64 = 20_000;

/// Rendered texts end here.
const MAX_LENGTH: usize = 1 << 20;

/// The name under which all variables are found by their own names.
const ALL: &str = "var";

/// The name of the current item of `each`.
pub const ITEM: &str = "item";

/// Why a template gives no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not a template.
    #[error("the template cannot be read: {detail}")]
    Syntax {
        /// What the engine says.
        detail: String,
    },
    /// `{{ eth-mgmt }}`.
    #[error("`{written}` in a template is a subtraction")]
    Dashed {
        /// What was written.
        written: String,
    },
    /// A variable that does not exist.
    #[error("there is no variable `{name}`")]
    Unknown {
        /// Its name as written.
        name: String,
        /// The names that exist, as a template writes them.
        known: Vec<String>,
    },
    /// A value that would add a line.
    #[error("the value of `{name}` holds a control character ({value:?})")]
    Control {
        /// Its name.
        name: String,
        /// The value.
        value: String,
    },
    /// Two variables with one template name.
    #[error("the variables `{first}` and `{second}` are both written `{written}`")]
    Clash {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// The name in templates and in the environment of `run` steps.
        written: String,
    },
    /// Anything else.
    #[error("the template cannot be rendered: {detail}")]
    Failed {
        /// What the engine says.
        detail: String,
    },
}

impl TemplateError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            TemplateError::Dashed { written } => Some(format!(
                "the variable is written {{{{ {} }}}} or {{{{ var[\"{written}\"] }}}}; a subtraction needs spaces",
                identifier(written)
            )),
            TemplateError::Unknown { name, known } => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                Some(format!("variables: {}", super::did_you_mean(name, &known)))
            }
            TemplateError::Control { .. } => {
                Some("only a CMDB value may hold one, in file contents and arguments".to_owned())
            }
            TemplateError::Clash { .. } => Some("rename one of them".to_owned()),
            TemplateError::Syntax { .. } | TemplateError::Failed { .. } => None,
        }
    }
}

/// The name by which templates and environments know a variable.
pub fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Two names that have one [`identifier`], if there are such.
pub fn clash<'a>(names: impl Iterator<Item = &'a str>) -> Option<TemplateError> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        let written = identifier(name);
        if let Some(first) = seen.insert(written.clone(), name) {
            return Some(TemplateError::Clash {
                first: first.to_owned(),
                second: name.to_owned(),
                written,
            });
        }
    }
    None
}

/// Looks at a template without rendering it.
///
/// # Errors
///
/// [`TemplateError::Syntax`] and [`TemplateError::Dashed`].
pub fn check(text: &str) -> Result<(), TemplateError> {
    if is_plain(text) { Ok(()) } else { compile(text).map(drop) }
}

fn compile(text: &str) -> Result<Template<'_, '_>, TemplateError> {
    let template = ENVIRONMENT
        .template_from_str(text)
        .map_err(|error| TemplateError::Syntax { detail: detail(&error) })?;
    match dashed_name(text) {
        Some(written) => Err(TemplateError::Dashed { written }),
        None => Ok(template),
    }
}

/// Whether a string is its own text: nothing in it begins an expression, block or comment.
fn is_plain(text: &str) -> bool {
    !text.contains('{')
}

/// The variables a template uses, as [`identifier`]s, without `item`.
pub fn variables(text: &str) -> BTreeSet<String> {
    if is_plain(text) {
        return BTreeSet::new();
    }
    match ENVIRONMENT.template_from_str(text) {
        Ok(template) => used_by(&template, text),
        Err(_) => subscripts(text).map(|name| identifier(&name)).collect(),
    }
}

/// As [`variables`], of a template that was compiled from this text.
fn used_by(template: &Template<'_, '_>, text: &str) -> BTreeSet<String> {
    let plain = template.undeclared_variables(false).into_iter();
    let subscripts = subscripts(text).map(|name| identifier(&name));
    plain.filter(|name| name != ALL && name != ITEM).chain(subscripts).collect()
}

/// The variables of one match, ready for templates.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    variables: &'a Variables,
    facts: &'a Facts,
    has_item: bool,
    /// The variables as the engine takes them.
    context: minijinja::Value,
}

/// What a rendered text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One line: names, paths, addresses.
    Line,
    /// Any text: contents of files, arguments.
    Text,
}

impl<'a> Scope<'a> {
    /// The variables of a match on these facts.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Clash`].
    pub fn new(variables: &'a Variables, facts: &'a Facts) -> Result<Scope<'a>, TemplateError> {
        match clash(variables.keys().map(String::as_str)) {
            Some(error) => Err(error),
            None => {
                Ok(Scope { variables, facts, has_item: false, context: context(variables, None) })
            }
        }
    }

    /// The same variables with `{{ item }}`.
    pub fn with_item(&self, item: String) -> Scope<'a> {
        let context = context(self.variables, Some(item));
        Scope { variables: self.variables, facts: self.facts, has_item: true, context }
    }

    /// The value of the variable with exactly this name.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(Value::as_text)
    }

    /// The text that a template stands for.
    ///
    /// # Errors
    ///
    /// Any [`TemplateError`].
    pub fn render(&self, text: &str, shape: Shape) -> Result<String, TemplateError> {
        let rendered = if is_plain(text) { text.to_owned() } else { self.evaluate(text, shape)? };
        if rendered.len() > MAX_LENGTH {
            return Err(TemplateError::Failed {
                detail: "the text is longer than 1 MiB".to_owned(),
            });
        }
        if shape == Shape::Line && rendered.contains(char::is_control) {
            let detail = "a line break or other control character is not possible here".to_owned();
            return Err(TemplateError::Failed { detail });
        }
        Ok(rendered)
    }

    fn evaluate(&self, text: &str, shape: Shape) -> Result<String, TemplateError> {
        let template = compile(text)?;
        self.check_values(&template, text, shape)?;
        template.render(self.context.clone()).map_err(|error| self.explain(text, &error))
    }

    /// Refuses values that could change the structure of what they are put into.
    fn check_values(
        &self,
        template: &Template<'_, '_>,
        text: &str,
        shape: Shape,
    ) -> Result<(), TemplateError> {
        let is_risky = |(_, value): &(&String, &Value)| value.text().contains(char::is_control);
        let mut risky = self.variables.iter().filter(is_risky).peekable();
        if risky.peek().is_none() {
            return Ok(());
        }
        let used = used_by(template, text);
        for (name, value) in risky.filter(|(name, _)| used.contains(&identifier(name))) {
            let reported = self.facts.0.iter().any(|fact| fact.3.same_as(value));
            if shape == Shape::Line || reported {
                let (name, value) = (name.clone(), value.as_text());
                return Err(TemplateError::Control { name, value });
            }
        }
        Ok(())
    }

    fn explain(&self, text: &str, error: &minijinja::Error) -> TemplateError {
        if error.kind() == ErrorKind::UndefinedError {
            let known: BTreeSet<String> =
                self.variables.keys().map(|name| identifier(name)).collect();
            let mut missing = variables(text);
            if !self.has_item && mentions_item(text) {
                missing.insert(ITEM.to_owned());
            }
            if let Some(name) = missing.into_iter().find(|name| !known.contains(name)) {
                return TemplateError::Unknown { name, known: known.into_iter().collect() };
            }
            if let Some(name) = subscripts(text).find(|name| !self.variables.contains_key(name)) {
                let known = self.variables.keys().cloned().collect();
                return TemplateError::Unknown { name, known };
            }
        }
        TemplateError::Failed { detail: detail(error) }
    }
}

fn engine_value(value: &Value) -> minijinja::Value {
    match value {
        Value::None => ().into(),
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(value) => value.as_str().into(),
        Value::List(items) => items.iter().map(engine_value).collect(),
    }
}

/// All variables by their identifiers, and by their own names in one mapping.
fn context(variables: &Variables, item: Option<String>) -> minijinja::Value {
    let values: Vec<(&String, minijinja::Value)> =
        variables.iter().map(|(name, value)| (name, engine_value(value))).collect();
    let by_identifier = values.iter().map(|(name, value)| (identifier(name), value.clone()));
    let mut context: BTreeMap<String, minijinja::Value> = by_identifier.collect();
    // A variable called `var` hides this mapping; the item of `each` hides a variable called `item`.
    let all = values.into_iter().map(|(name, value)| (name.clone(), value));
    context.entry(ALL.to_owned()).or_insert_with(|| minijinja::Value::from_pairs(all));
    context.extend(item.map(|item| (ITEM.to_owned(), item.into())));
    minijinja::Value::from_pairs(context)
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("only a newline rule differs from the default syntax"));
    environment.set_fuel(Some(FUEL));
    environment
});

fn detail(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// The parts of a text that the engine reads as code.
fn code(text: &str) -> impl Iterator<Item = &str> {
    static CODE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?s)\{\{(.*?)\}\}|\{%(.*?)%\}").expect("a constant"));
    CODE.captures_iter(text)
        .filter_map(|found| found.get(1).or(found.get(2)))
        .map(|part| part.as_str())
}

/// The first name with a dash and without spaces around it, outside quotes.
fn dashed_name(text: &str) -> Option<String> {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#""[^"]*"|'[^']*'|([A-Za-z_]\w*(?:-\w+)+)|\w+"#).expect("a constant")
    });
    code(text).find_map(|part| {
        TOKEN
            .captures_iter(part)
            .find_map(|found| found.get(1))
            .map(|name| name.as_str().to_owned())
    })
}

/// The names in `var["…"]`.
fn subscripts(text: &str) -> impl Iterator<Item = String> {
    static SUBSCRIPT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"\bvar\s*\[\s*["']([^"']*)["']\s*\]"#).expect("a constant"));
    code(text).flat_map(|part| {
        SUBSCRIPT
            .captures_iter(part)
            .filter_map(|found| found.get(1))
            .map(|name| name.as_str().to_owned())
    })
}

fn mentions_item(text: &str) -> bool {
    ENVIRONMENT
        .template_from_str(text)
        .is_ok_and(|template| template.undeclared_variables(false).contains(ITEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables_of(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
    }

    #[test]
    fn strings_are_rendered_and_everything_else_is_explained() {
        let variables = variables_of(&[
            ("disk", "vda"),
            ("eth-mgmt", "eth1"),
            ("n", "4"),
            ("key", "one\ntwo"),
            ("tag", "evil\nline"),
        ]);
        let mut facts = Facts::default();
        facts.push("system", "product", "serial", "evil\nline");
        let scope = Scope::new(&variables, &facts).unwrap();
        let check = |text: &str, shape: Shape, expected: Result<&str, &str>| {
            let rendered = scope
                .render(text, shape)
                .map_err(|error| format!("{error} ({})", error.help().unwrap_or_default()));
            match (rendered, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
            }
        };
        check("/dev/{{ disk }}", Shape::Line, Ok("/dev/vda"));
        check("{{ eth_mgmt }}", Shape::Line, Ok("eth1"));
        check("{{ var[\"eth-mgmt\"] }}", Shape::Line, Ok("eth1"));
        check("{{ n|int - 1 }}", Shape::Line, Ok("3"));
        check("kept\n", Shape::Text, Ok("kept\n"));
        check("{{ \"a-b\" }}", Shape::Line, Ok("a-b"));
        check("{{ key }}", Shape::Text, Ok("one\ntwo"));
        check("{{ key }}", Shape::Line, Err("the value of `key` holds a control character"));
        check("{{ tag }}", Shape::Text, Err("the value of `tag` holds a control character"));
        check(
            "{{ eth-mgmt }}",
            Shape::Line,
            Err("written {{ eth_mgmt }} or {{ var[\"eth-mgmt\"] }}"),
        );
        check(
            "{{ disc }}",
            Shape::Line,
            Err("there is no variable `disc` (variables: did you mean `disk`?)"),
        );
        check(
            "{{ zzzzzzzz }}",
            Shape::Line,
            Err("possible: `disk`, `eth_mgmt`, `key`, `n`, `tag`"),
        );
        check("{{ var[\"eth_mgmt\"] }}", Shape::Line, Err("there is no variable `eth_mgmt`"));
        check("{{ var[\"eth-mgnt\"] }}", Shape::Line, Err("there is no variable `eth_mgnt`"));
        check("{{ item }}", Shape::Line, Err("there is no variable `item`"));
        check("{{ disk", Shape::Line, Err("the template cannot be read"));
        check(
            "{% for i in range(10000) %}{{ i }}{% endfor %}",
            Shape::Line,
            Err("cannot be rendered"),
        );
        // What a loop binds is no variable of the machine, and is not missing.
        check(
            "{% for item in [1] %}{{ item.x }}{% endfor %}",
            Shape::Line,
            Err("cannot be rendered"),
        );
        check(
            "{% for item in [1] %}{{ dusk }}{% endfor %}",
            Shape::Line,
            Err("no variable `dusk`"),
        );
        let with_item = scope.with_item("vdb".to_owned());
        let error = with_item.render("{{ item }} {{ dusk }}", Shape::Line).unwrap_err();
        assert!(error.to_string().contains("no variable `dusk`"), "{error}");
        let error = with_item.render("{{ item.x }}", Shape::Line).unwrap_err();
        assert!(error.to_string().contains("cannot be rendered"), "{error}");
        assert_eq!(
            scope.with_item("vdb".to_owned()).render("{{ item }}", Shape::Line).unwrap(),
            "vdb"
        );
    }

    #[test]
    fn a_value_is_never_read_as_a_template() {
        let variables = variables_of(&[("serial", "{{ secret }}\"), (x: 1")]);
        let facts = Facts::default();
        let scope = Scope::new(&variables, &facts).unwrap();
        assert_eq!(
            scope.render("a {{ serial }}", Shape::Line).unwrap(),
            "a {{ secret }}\"), (x: 1"
        );
    }

    #[test]
    fn two_names_with_one_written_form_clash() {
        let variables = variables_of(&[("eth-mgmt", "a"), ("eth_mgmt", "b")]);
        let error = Scope::new(&variables, &Facts::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the variables `eth-mgmt` and `eth_mgmt` are both written `eth_mgmt`"
        );
    }
}
