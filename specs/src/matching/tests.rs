//! Small lists; the corpus, planted instances and brute force are in `tests/matching/`.

use super::*;

#[track_caller]
fn check(spec: &str, facts: &str, expected: Option<&str>) {
    let spec = Spec::parse("f.specs", spec).unwrap_or_else(|error| panic!("{error}"));
    let facts = Facts::parse("f.hw", facts.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let found = Matcher::new(&facts).find(&spec).map(|found| {
        let all: Vec<String> =
            found.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        all.join(" ")
    });
    assert_eq!(found.ok().as_deref(), expected);
}

#[test]
fn a_fact_is_taken_by_one_line_only() {
    let disk = "[('disk', 'sda', 'size', '10')]";
    check("[('disk', '$d', 'size', 'gt(4)'), ('disk', '$d', 'size', 'lt(12)')]", disk, None);
    check("[('disk', '$d', 'size', 'and(gt(4), lt(12))')]", disk, Some("d=sda"));
    check("[]", disk, Some(""));
    check("[]", "[]", Some(""));
}

#[test]
fn the_first_assignment_in_list_order_is_returned() {
    let disks = "[('d', 'a', 's', '1'), ('d', 'b', 's', '1'), ('d', 'c', 's', '1')]";
    check("[('d', '$x', 's', '1'), ('d', '$y', 's', '1')]", disks, Some("x=a y=b"));
    check("[('d', '$x', 's', '1'), ('d', 'a', 's', '$y')]", disks, Some("x=b y=1"));
    check(
        "[('d', '$x', '$k', '1'), ('d', '$y=not(in(b))', '$k', '1')]",
        disks,
        Some("k=s x=a y=c"),
    );
}

#[test]
fn values_compare_as_text_and_keep_their_type() {
    let facts = "[('cpu', 'logical', 'number', 8), ('a', 'b', 'c', '8'), ('a', 'b', 'n', None)]";
    check("[('cpu', 'logical', 'number', '8')]", facts, Some(""));
    check("[('a', 'b', 'c', 8)]", facts, Some(""));
    check("[('cpu', 'logical', 'number', '$n'), ('a', 'b', 'c', '$n')]", facts, Some("n=8"));
    let facts = Facts::parse("f", facts.as_bytes()).unwrap();
    let spec =
        Spec::parse("f", "[('cpu', '$$x', 'number', '$n'), ('a', '$y', 'n', '$z')]").unwrap();
    let found = Matcher::new(&facts).find(&spec).unwrap();
    assert_eq!(found.variables["n"], Value::Integer(8));
    assert_eq!(found.variables["z"], Value::None);
    assert_eq!(found.cmdb_variables, Variables::from([("x".to_owned(), Value::from("logical"))]));
    assert_eq!(found.lines, [0, 2]);
}

#[test]
fn a_variable_has_one_value_within_a_line_and_across_lines() {
    let facts = "[('a', 'x', 'y', '1'), ('a', 'z', 'z', '1'), ('b', 'z', 'k', '2')]";
    check("[('a', '$v', '$v', '1')]", facts, Some("v=z"));
    check("[('$c', 'z', 'k', '2'), ('$c', 'x', 'y', '1')]", facts, None);
    check("[('a', '$d', '$k', '1'), ('b', '$$d', 'k', '2')]", facts, Some("d=z k=z"));
}

#[test]
fn a_small_budget_is_an_answer_of_its_own() {
    let facts = Facts::parse("f", b"[['a','b','c','d'],['a','b','c','e']]").unwrap();
    let spec = Spec::parse("f", "[('a', '$x', 'c', '$y'), ('a', '$x', 'c', '$z')]").unwrap();
    let matcher = Matcher::new(&facts);
    assert_eq!(matcher.find_within(&spec, 5), Err(NoMatch::BudgetExhausted));
    assert!(matcher.find_within(&spec, 5_000).is_ok());
}
