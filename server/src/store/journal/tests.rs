//! Prefixes, damage, and several processes with one journal, cut and uncut.

use super::*;

use tempfile::TempDir;

fn token() -> Token {
    Token::from_bytes([7; 16])
}

/// A journal in a folder that goes with the first of these.
fn begun() -> (TempDir, PathBuf, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = Journal::open(&path, token).unwrap();
    (folder, path, journal)
}

/// A bit that flips in the first line after the header is found, and its place is told.
#[track_caller]
fn assert_first_line_is_guarded(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[HEADER + 30] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let error = Journal::open(path, token).unwrap().read_new().unwrap_err();
    assert!(matches!(error, JournalError::Damaged { offset, .. } if offset == HEADER as u64));
}

fn batch(left: i64) -> Line {
    Line::Batch { at: 5, changes: vec![change(left)] }
}

fn change(by: i64) -> Change {
    Change::Count { profile: "vm".parse().unwrap(), by }
}

fn lines_of(journal: &mut Journal) -> Vec<Line> {
    let News::Lines(lines) = journal.read_new().unwrap() else { panic!("replaced") };
    lines.into_iter().map(|(_, line)| line).collect()
}

#[test]
fn a_line_is_read_as_it_was_written() {
    for line in [batch(3), Line::Written { offset: 7, kept: vec![(3, change(1))] }] {
        let text = render(&line, 5).unwrap();
        let stored = read_line(text.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!((stored.line, stored.synced), (line, 5));
    }
}

#[test]
fn every_prefix_is_a_prefix_of_the_batches() {
    let (_folder, path, mut journal) = begun();
    let end = |journal: &Journal| usize::try_from(journal.place(journal.position)).unwrap();
    let start = end(&journal);
    let mut ends = vec![start];
    for left in [3, 2, 1] {
        journal.append(&batch(left), true).unwrap();
        ends.push(end(&journal));
    }
    let whole = std::fs::read(&path).unwrap();
    for length in start..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let mut reopened = Journal::open(&path, token).unwrap();
        let complete = ends.iter().filter(|end| **end <= length).count() - 1;
        let expected: Vec<Line> = [3, 2, 1][..complete].iter().map(|n| batch(*n)).collect();
        assert_eq!(lines_of(&mut reopened), expected, "{length}");
        // And it goes on from there.
        reopened.append(&batch(9), true).unwrap();
        let mut again = Journal::open(&path, token).unwrap();
        assert_eq!(lines_of(&mut again).len(), complete + 1);
    }
}

#[test]
fn damage_before_the_end_is_an_error() {
    let (_folder, path, mut journal) = begun();
    journal.append(&batch(3), true).unwrap();
    journal.append(&batch(2), true).unwrap();
    assert_first_line_is_guarded(&path);
}

#[test]
fn lines_that_were_promised_to_nobody_are_lost_in_any_order() {
    let (_folder, path, mut journal) = begun();
    journal.append(&batch(3), true).unwrap();
    let lost = usize::try_from(journal.place(journal.position)).unwrap();
    journal.append(&batch(2), false).unwrap();
    let kept = usize::try_from(journal.place(journal.position)).unwrap();
    journal.append(&Line::Written { offset: 1, kept: vec![] }, false).unwrap();
    // A power cut: the page of the second line was not written, that of the third was.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[lost..kept].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let mut reopened = Journal::open(&path, token).unwrap();
    assert_eq!(lines_of(&mut reopened), [batch(3)]);
    reopened.append(&batch(1), true).unwrap();
    reopened.append(&batch(0), false).unwrap();
    // What was synced later makes the same damage an error.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[lost..lost + 20].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let error = Journal::open(&path, token).unwrap().read_new().unwrap_err();
    assert!(matches!(error, JournalError::Damaged { offset, .. } if offset == lost as u64));
}

#[test]
fn processes_see_each_others_lines_and_a_new_journal() {
    let (_folder, path, mut one) = begun();
    let mut two = Journal::open(&path, token).unwrap();
    one.append(&batch(3), true).unwrap();
    assert_eq!(lines_of(&mut two), [batch(3)]);
    two.append(&batch(2), true).unwrap();
    assert_eq!(lines_of(&mut one), [batch(2)]);
    // Someone moved the journal away.
    std::fs::remove_file(&path).unwrap();
    Journal::open(&path, || Token::from_bytes([8; 16])).unwrap();
    assert_eq!(two.read_new().unwrap(), News::Replaced);
    assert_eq!(one.read_new().unwrap(), News::Replaced);
}

/// A batch longer than a journal that is left as it is.
fn long_batch() -> Line {
    Line::Batch { at: 5, changes: (0..1 << 15).map(change).collect() }
}

#[test]
fn what_the_files_hold_is_cut_off_and_nobody_has_to_read_again() {
    let (_folder, path, mut one) = begun();
    let mut two = Journal::open(&path, token).unwrap();
    let mut late = Journal::open(&path, token).unwrap();
    let length = || std::fs::metadata(&path).unwrap().len();
    one.append(&long_batch(), true).unwrap();
    let offset = one.position();
    one.append(&batch(3), true).unwrap();
    assert_eq!(lines_of(&mut two), [long_batch(), batch(3)]);
    assert!(length() > MAX_JOURNAL);

    one.written(offset, vec![]).unwrap();
    assert!(length() < 500, "{}", length());
    assert_eq!(lines_of(&mut two), [Line::Written { offset, kept: vec![] }]);
    two.append(&batch(4), true).unwrap();
    assert_eq!(lines_of(&mut one), [batch(4)]);
    // One that had not read as far begins again, and so does one that starts.
    assert_eq!(late.read_new().unwrap(), News::Replaced);
    let mut fresh = Journal::open(&path, token).unwrap();
    let News::Lines(lines) = fresh.read_new().unwrap() else { panic!("replaced") };
    let expected = [batch(3), Line::Written { offset, kept: vec![] }, batch(4)];
    assert_eq!(lines.iter().map(|(_, line)| line).collect::<Vec<_>>(), expected.each_ref());
    assert_eq!(lines[0].0, offset);
    assert_eq!((fresh.position(), one.position()), (two.position(), two.position()));
}

#[test]
fn less_than_half_is_not_worth_copying_the_rest() {
    let (_folder, _, mut journal) = begun();
    journal.append(&batch(3), true).unwrap();
    let offset = journal.position();
    journal.append(&long_batch(), true).unwrap();
    journal.written(offset, vec![]).unwrap();
    assert_eq!((journal.header.base, offset > 0), (0, true));
    assert_eq!(journal.read_new().unwrap(), News::Lines(vec![]));
}

#[test]
fn damage_in_what_was_copied_is_found() {
    let (_folder, path, mut journal) = begun();
    journal.append(&long_batch(), true).unwrap();
    let offset = journal.position();
    journal.append(&batch(3), true).unwrap();
    journal.written(offset, vec![]).unwrap();
    journal.append(&batch(2), true).unwrap();
    assert_first_line_is_guarded(&path);
}

#[test]
fn a_first_line_that_does_not_say_where_it_begins_is_damage() {
    let (_folder, path, mut journal) = begun();
    journal.append(&batch(3), true).unwrap();
    let good = std::fs::read(&path).unwrap();
    for byte in 0..HEADER {
        let mut bytes = good.clone();
        bytes[byte] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = Journal::open(&path, token).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { offset: 0, .. }), "{byte}: {error}");
    }
}
