//! Reads, from a `grub.cfg` that `grub-mkconfig` wrote, which kernel GRUB starts by default.
//!
//! Not a shell: it knows `set default=`, `menuentry`, `submenu`, `linux` and `initrd`, as
//! `grub-mkconfig` writes them, and says so when it finds something else. A default that only
//! GRUB itself could compute (`${next_entry}`, `${saved_entry}`) is the first entry. Among several
//! kernels the boot arguments may pick another one than the default.

/// What GRUB would boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEntry {
    /// Title in the menu.
    pub title: String,
    /// Path of the kernel, from the top of the file system that holds it.
    pub kernel: String,
    /// Its arguments.
    pub arguments: String,
    /// Paths of its initrds.
    pub initrds: Vec<String>,
}

/// Why no entry was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrubError {
    /// There is no entry at all.
    #[error("it has no menu entry")]
    NoEntry,
    /// The default names an entry that is not there.
    #[error("its default is `{default}`, and there is no such entry")]
    NoDefault {
        /// The value of `default`.
        default: String,
    },
    /// No entry starts the kernel that was asked for.
    #[error("no menu entry starts a kernel with `{wanted}` in its name; there are {}", .kernels.join(", "))]
    NoSuchKernel {
        /// The text of KEXEC_KERNEL.
        wanted: String,
        /// Names of the kernels that the menu has.
        kernels: Vec<String>,
    },
    /// The entry starts no Linux kernel.
    #[error("its entry `{title}` has no `linux` line")]
    NoKernel {
        /// Title of the entry.
        title: String,
    },
}

/// An entry of the menu, as it stands.
#[derive(Debug, Default)]
struct Entry {
    title: String,
    id: Option<String>,
    /// Position in its menu, and those of the menus around it, outermost first.
    position: Vec<usize>,
    linux: Option<Vec<String>>,
    initrds: Vec<String>,
}

/// The first entry whose kernel has `wanted` in its name (`vmlinuz-6.1.0-18-amd64`), or the entry
/// that is booted when nobody touches a key.
pub(super) fn entry(text: &str, wanted: Option<&str>) -> Result<BootEntry, GrubError> {
    let entries = entries(text);
    if entries.is_empty() {
        return Err(GrubError::NoEntry);
    }
    let entry = match wanted {
        Some(wanted) => entries
            .iter()
            .find(|entry| kernel_name(entry).is_some_and(|name| name.contains(wanted)))
            .ok_or_else(|| no_such_kernel(wanted, &entries))?,
        None => default_entry(text, &entries)?,
    };
    let Some((kernel, arguments)) = entry.linux.as_ref().and_then(|words| words.split_first())
    else {
        return Err(GrubError::NoKernel { title: entry.title.clone() });
    };
    Ok(BootEntry {
        title: entry.title.clone(),
        kernel: kernel.clone(),
        arguments: arguments.join(" "),
        initrds: entry.initrds.clone(),
    })
}

fn default_entry<'a>(text: &str, entries: &'a [Entry]) -> Result<&'a Entry, GrubError> {
    match default_value(text) {
        None => entries.first().ok_or(GrubError::NoEntry),
        Some(default) => select(entries, &default).ok_or(GrubError::NoDefault { default }),
    }
}

/// The file name of the kernel that an entry starts.
fn kernel_name(entry: &Entry) -> Option<&str> {
    entry.linux.as_ref()?.first()?.rsplit('/').next()
}

/// Names every kernel once, in the order of the menu.
fn no_such_kernel(wanted: &str, entries: &[Entry]) -> GrubError {
    let mut kernels: Vec<String> = Vec::new();
    for name in entries.iter().filter_map(kernel_name) {
        if !kernels.iter().any(|known| known == name) {
            kernels.push(name.to_owned());
        }
    }
    GrubError::NoSuchKernel { wanted: wanted.to_owned(), kernels }
}

/// The last `set default=` whose value is written out.
fn default_value(text: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix("set default="));
    values
        .map(|value| value.trim_matches(['"', '\'']).to_owned())
        .rfind(|value| !value.contains('$') && !value.is_empty())
}

/// GRUB's ways of naming an entry: numbers, titles and ids, `>` between menu and entry.
fn select<'a>(entries: &'a [Entry], default: &str) -> Option<&'a Entry> {
    let numbers: Result<Vec<usize>, _> = default.split('>').map(str::parse).collect();
    if let Ok(numbers) = numbers {
        return entries.iter().find(|entry| entry.position == numbers);
    }
    let last = default.rsplit('>').next().unwrap_or(default);
    entries.iter().find(|entry| entry.title == last || entry.id.as_deref() == Some(last))
}

fn entries(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut menus: Vec<usize> = Vec::new();
    let mut next = vec![0];
    let mut current: Option<Entry> = None;
    for line in text.lines() {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (words.as_slice(), &mut current) {
            (["menuentry", title, rest @ ..], None) => {
                let position = menus.iter().copied().chain(next.last().copied()).collect();
                current = Some(Entry {
                    title: (*title).to_owned(),
                    id: identifier(rest),
                    position,
                    ..Entry::default()
                });
            }
            (["submenu", ..], None) => {
                menus.push(next.last().copied().unwrap_or(0));
                next.push(0);
            }
            (["linux" | "linuxefi" | "linux16", rest @ ..], Some(entry)) => {
                entry.linux = Some(rest.iter().map(|&word| word.to_owned()).collect());
            }
            (["initrd" | "initrdefi" | "initrd16", rest @ ..], Some(entry)) => {
                entry.initrds = rest.iter().map(|&word| word.to_owned()).collect();
            }
            (["}"], Some(_)) => {
                found.extend(current.take());
                count_entry(&mut next);
            }
            (["}"], None) if next.len() > 1 => {
                next.pop();
                menus.pop();
                count_entry(&mut next);
            }
            _ => {}
        }
    }
    found
}

/// One more entry in the innermost menu.
fn count_entry(next: &mut [usize]) {
    if let Some(number) = next.last_mut() {
        *number += 1;
    }
}

/// The id in `menuentry 'title' --class x $menuentry_id_option 'id' {`.
fn identifier(words: &[&str]) -> Option<String> {
    let option = words.iter().position(|&word| word == "$menuentry_id_option" || word == "--id")?;
    words.get(option + 1).map(|&id| id.to_owned())
}

/// The words of a line, with quotes taken off.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted_by = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, quoted_by) {
            ('\'' | '"', None) => {
                quoted_by = Some(character);
                word.get_or_insert_default();
            }
            (_, Some(open)) if character == open => quoted_by = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            (_, None) if character.is_whitespace() => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = r#"
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="0"
fi
function gfxmode {
	set gfxpayload="${1}"
}
menuentry 'Debian GNU/Linux' --class debian --class os $menuentry_id_option 'gnulinux-simple-1' {
	insmod ext2
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root  1
	fi
	echo	'Loading Linux ...'
	linux	/boot/vmlinuz-6.1.0-amd64 root=UUID=1 ro  console=ttyS0,115200n8 "a=b c"
	initrd	/boot/initrd.img-6.1.0-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian, with Linux 6.1.0 (recovery mode)' $menuentry_id_option 'recovery' {
		linux	/boot/vmlinuz-6.1.0-amd64 root=UUID=1 ro single
		initrd	/boot/initrd.img-6.1.0-amd64
	}
}
menuentry 'Memory test' {
	linux16 /boot/memtest
}
"#;

    #[track_caller]
    fn check(text: &str, kernel: &str, arguments: &str) {
        let entry = entry(text, None).unwrap();
        assert_eq!((entry.kernel.as_str(), entry.arguments.as_str()), (kernel, arguments));
    }

    #[test]
    fn the_default_is_found_however_it_is_named() {
        let with = |default: &str| DEBIAN.replace("\"0\"", default);
        let normal = "root=UUID=1 ro console=ttyS0,115200n8 a=b c";
        let recovery = "root=UUID=1 ro single";
        check(DEBIAN, "/boot/vmlinuz-6.1.0-amd64", normal);
        check(&with("\"${saved_entry}\""), "/boot/vmlinuz-6.1.0-amd64", normal);
        check(&with("'1>0'"), "/boot/vmlinuz-6.1.0-amd64", recovery);
        check(&with("gnulinux-advanced-1>recovery"), "/boot/vmlinuz-6.1.0-amd64", recovery);
        check(&with("2"), "/boot/memtest", "");
        check(&with("'Memory test'"), "/boot/memtest", "");
    }

    #[test]
    fn what_cannot_be_booted_is_said() {
        let missing = entry(&DEBIAN.replace("\"0\"", "7"), None);
        assert_eq!(missing, Err(GrubError::NoDefault { default: "7".to_owned() }));
        assert_eq!(entry("set default=0\n", None), Err(GrubError::NoEntry));
        let without = entry("menuentry 'x' {\n chainloader +1\n}\n", None);
        assert_eq!(without, Err(GrubError::NoKernel { title: "x".to_owned() }));
    }

    #[test]
    fn among_several_kernels_one_can_be_picked() {
        let older = "menuentry 'older' {\n linux /vmlinuz-5.10.0-28-amd64 ro\n}\n";
        let text = DEBIAN.to_owned() + older;
        for (wanted, expected) in [
            ("5.10", "/vmlinuz-5.10.0-28-amd64"),
            // The first of its entries, which is not the one for repairs.
            ("6.1.0", "/boot/vmlinuz-6.1.0-amd64"),
        ] {
            let entry = entry(&text, Some(wanted)).unwrap();
            assert_eq!(entry.kernel, expected);
            assert!(!entry.arguments.contains("single"), "{entry:?}");
        }
        let error = entry(&text, Some("4.19")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no menu entry starts a kernel with `4.19` in its name; there are \
             vmlinuz-6.1.0-amd64, memtest, vmlinuz-5.10.0-28-amd64"
        );
    }
}
