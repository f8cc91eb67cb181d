//! What is handed out: the counts of `state` and the entries of a CMDB.

use specs::cmdb::{Choice, Claimant, Cmdb, Entry};
use specs::diagnostic::Code;
use specs::state::{Count, State};
use specs::units::Name;
use specs::value::Variables;

/// Counts that are taken are the only difference, whoever reads the file next, and after an edit
/// by hand.
pub fn state(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = || State::parse("state", text);
    let counts = |state: &State| -> Vec<(Name, Count)> {
        state.profiles().map(|(profile, count)| (profile.clone(), count)).collect()
    };
    let mut state = match read() {
        Ok(state) => state,
        Err(findings) => return assert!(findings.iter().all(|finding| finding.line > 0)),
    };
    assert_eq!(state.to_text(), text);
    let before = counts(&state);
    let wanted: Vec<(Name, Count)> =
        before.iter().map(|(profile, count)| (profile.clone(), count.plus(-1))).collect();
    before.iter().for_each(|(profile, _)| state.add(profile, -1));
    let written = state.to_text();
    assert_eq!(State::parse("state", &written).as_ref().map(counts), Ok(wanted.clone()));
    // Whoever is started now finds the file of before, and what is not in it yet in the journal.
    let (Ok(mut next), Ok(edited)) = (read(), read()) else { panic!("read a moment ago: {text}") };
    next.set_pending(before.iter().map(|(profile, _)| (profile.clone(), -1)).collect());
    assert_eq!(next.to_text(), written);
    assert_eq!(counts(&next.rebased_on(edited)), wanted);
    // Written down, nothing is pending.
    state.written(&written);
    assert_eq!((state.to_text(), counts(&state)), (written, wanted.clone()));
    for (profile, count) in wanted {
        assert_eq!(state.count(&profile), Some(count));
        let below_zero = matches!(count.plus(-1), Count::Left(left) if left < 0);
        assert_eq!(count.is_available(), !below_zero, "{count}");
        let shown = format!("[(\"{profile}\", \"{count}\")]");
        assert_eq!(State::parse("state", &shown).map(|it| it.count(&profile)), Ok(Some(count)));
    }
}

/// An entry that is bound is the only difference to a CMDB read before, and given back it is
/// written as it was.
pub fn cmdb(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let keys = ["hostname".to_owned()].into();
    let mut cmdb = match Cmdb::parse("f", text, &keys) {
        Ok(cmdb) => cmdb,
        Err(findings) => return assert!(findings.iter().all(|finding| finding.line > 0)),
    };
    assert_eq!(cmdb.to_text(), text);
    if cmdb.len() > 1_000 {
        return;
    }
    let entries: Vec<Entry> = cmdb.entries().collect();
    assert_eq!(entries.len(), cmdb.len());
    assert_eq!(cmdb.free(), entries.iter().filter(|entry| !entry.is_used()).count());
    choices(&cmdb, &entries);
    let Some(last) = entries.len().checked_sub(1) else { return assert!(cmdb.is_empty()) };
    let place = cmdb.warning(Code::CheckUsed, last, "an entry".to_owned());
    assert!((1..=text.split('\n').count()).contains(&place.line), "{place}");

    let literally = cmdb.entry_text(last);
    let bound = entries[last].bound_to(&[("disk".to_owned(), "vda".into())].into());
    let bound = bound.with_secrets(&["rack".to_owned()].into());
    assert!(bound.is_used());
    cmdb.set(last, bound.clone(), None);
    let mut wanted = entries.clone();
    wanted[last] = bound;
    let written = cmdb.to_text();
    let read = |text: &str| {
        Cmdb::parse("f", text, &keys).map(|cmdb| cmdb.entries().collect::<Vec<Entry>>())
    };
    assert_eq!(read(&written).as_ref(), Ok(&wanted), "{written}");
    assert_eq!(cmdb.entries().collect::<Vec<Entry>>(), wanted);
    assert_eq!(*cmdb.fold(), written);
    cmdb.reindex(&["disk".to_owned()].into());
    assert_eq!(cmdb.entries().collect::<Vec<Entry>>(), wanted);

    cmdb.set(last, entries[last].clone(), literally.as_deref());
    assert_eq!(*cmdb.fold(), cmdb.to_text());
    match literally {
        Some(_) => assert_eq!(cmdb.to_text(), text),
        None => assert_eq!(cmdb.generated_text(), Some(text)),
    }
    assert_eq!(read(&cmdb.to_text()), Ok(entries));
}

/// Who asks by the values of an entry gets one that has them, and whoever holds it is named.
fn choices(cmdb: &Cmdb, entries: &[Entry]) {
    let Ok(other) = "other".parse::<Name>() else { panic!("a name is none") };
    let nobody =
        Claimant { holder: Box::new(|_| None), machine: None, identifies: Box::new(|_| false) };
    let others = Claimant {
        holder: Box::new(|_| Some(other.clone())),
        machine: None,
        identifies: Box::new(|_| true),
    };
    if entries.is_empty() {
        let none = Variables::new();
        return assert_eq!(cmdb.choose(&none, &none, &nobody), Choice::NoneNeeded);
    }
    for entry in entries.iter().take(20) {
        let variables = entry.variables();
        let hostname = variables.get_key_value("hostname");
        let keys: Variables =
            hostname.map(|(key, value)| (key.clone(), value.clone())).into_iter().collect();
        let fits = |position: usize| match keys.is_empty() {
            true => !entries[position].is_used(),
            false => entries[position].agrees(&keys),
        };
        match cmdb.choose(&keys, &variables, &nobody) {
            Choice::Entry(position) => assert!(fits(position), "{entry:?}"),
            Choice::Exhausted => assert!(keys.is_empty() && cmdb.free() == 0, "{entry:?}"),
            choice => panic!("{choice:?} for {entry:?}"),
        }
        match cmdb.choose(&keys, &variables, &others) {
            Choice::Held { position, holder } => assert!(fits(position) && holder == other),
            choice => assert!(keys.is_empty() && choice == Choice::Exhausted, "{choice:?}"),
        }
        let strange = [("hostname".to_owned(), "no such\u{0}".into())].into();
        if !entries.iter().any(|entry| entry.agrees(&strange)) {
            assert_eq!(cmdb.choose(&strange, &strange, &nobody), Choice::Unknown);
        }
        if let Some(position) = cmdb.find_free(&variables) {
            assert!(!entries[position].is_used(), "{entry:?}");
        }
    }
}
