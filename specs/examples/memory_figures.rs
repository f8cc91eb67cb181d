//! Prints how much memory a CMDB takes per entry: `cargo run --release -p specs --example
//! memory_figures`. What is counted is what was allocated and not given back, by the byte.

#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(unsafe_code, reason = "an allocator that counts cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use specs::cmdb::Cmdb;
use specs::value::{Value, Variables};

/// The system's allocator, counted.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads a CMDB and binds every tenth entry; prints what that takes.
fn measure(what: &str, text: &str, bind: bool) {
    let keys = BTreeSet::from(["hostname".to_owned()]);
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut cmdb = match Cmdb::parse("vm.cmdb", text, &keys) {
        Ok(cmdb) => cmdb,
        Err(findings) => {
            println!("{what}: {findings:?}");
            return;
        }
    };
    let variables = Variables::from([
        ("disk".to_owned(), Value::from("vda")),
        ("eth".to_owned(), Value::from("eth0")),
        ("mac".to_owned(), Value::from("52:54:00:88:17:3c")),
    ]);
    for position in (0..cmdb.len()).step_by(10).filter(|_| bind) {
        let bound = cmdb.entry(position).unwrap_or_default().bound_to(&variables);
        cmdb.set(position, bound, None);
    }
    let per_entry = |bytes: usize| bytes.saturating_sub(before) / cmdb.len().max(1);
    println!(
        "{what}: {} entries of {} bytes of text, {} bytes each in memory, {} while it is made",
        cmdb.len(),
        text.len() / cmdb.len().max(1),
        per_entry(HELD.load(Ordering::Relaxed)),
        per_entry(MOST.load(Ordering::Relaxed)),
    );
}

fn main() {
    let entries: Vec<String> = (0..100_000_u32)
        .map(|number| {
            let [_, high, middle, low] = number.to_be_bytes();
            format!(
                " {{'ip': '10.{high}.{middle}.{low}', 'hostname': 'host{number:06}', \
                 'netmask': '255.0.0.0', 'gateway': '10.0.0.1'}},\n"
            )
        })
        .collect();
    let list = format!("[\n{}]\n", entries.concat());
    let template =
        "generate({'ip': '10.7.0-255.0-255', 'hostname': 'n00000-65535', 'gateway': '10.0.0.1'})";
    measure("list", &list, false);
    measure("list, every tenth entry bound", &list, true);
    measure("template", template, false);
    measure("template, every tenth entry bound", template, true);
}
