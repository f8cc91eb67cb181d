//! `lab bench-server`: how many durable allocations a second, and how long one takes, by front and
//! by size of the CMDB. Figures are only worth something on a block device: the file system, the
//! device and the time of an fdatasync are printed with them, and memory file systems are refused.
//! They are only comparable on processors that are equally fast, which those of a virtual machine
//! are not from one minute to the next: each row says how long a fixed piece of work took then.

#![expect(clippy::print_stdout, reason = "the figures are what this command is for")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::artifacts::checkout;
use crate::process::run;
use crate::storm::client::Door;
use crate::storm::fleet::Fleet;
use crate::storm::hall::{Front, Hall, Programs, Size};

/// Measures durable allocations, repeated uploads and refusals
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  scripts/bench-server --entries 1000,10000 --front serve")]
pub struct Options {
    /// Sizes of the CMDB
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000")]
    entries: Vec<usize>,
    /// Fronts
    #[arg(long, value_enum, value_delimiter = ',', default_value = "serve,cgi")]
    front: Vec<Front>,
    /// Facts of a machine
    #[arg(long, value_delimiter = ',', default_value = "30,300,3000")]
    facts: Vec<usize>,
    /// Clients at once
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Seconds for each figure
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Where the deployment lies
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// Folder of edeploy-server and edeploy-cgi
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// What was measured of one kind of request.
#[derive(Debug)]
struct Figures {
    requests: usize,
    took: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Figures {
    fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let position = (last * percent + 50) / 100;
        self.latencies.get(position).copied().unwrap_or_default()
    }

    fn cells(&self) -> String {
        format!(
            "{:>7.0} {:>6.1} {:>6.1}",
            self.requests as f64 / self.took.as_secs_f64(),
            milliseconds(self.percentile(50)),
            milliseconds(self.percentile(99)),
        )
    }
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    front: Front,
    entries: usize,
    facts: usize,
    allocations: Figures,
    repeated: Figures,
    refusals: Figures,
    /// A server that was started again on what was stored; CGI programs come and go.
    idle: Option<Idle>,
    /// What a fixed piece of work took on the slowest processor, before and after.
    work: [Duration; 2],
}

/// A server that has nothing to do.
#[derive(Debug)]
struct Idle {
    records: usize,
    ready: Duration,
    memory: u64,
}

const HEAD: &str = "\
front  entries facts | fixed work  | allocations          | repeated uploads     | refusals             | started again
                     | before after|     /s    p50    p99 |     /s    p50    p99 |     /s    p50    p99 | records ready ms  idle MiB";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let front = format!("{:?}", self.front).to_lowercase();
        let (entries, facts) = (self.entries, self.facts);
        let [given, repeated, refused] =
            [&self.allocations, &self.repeated, &self.refusals].map(Figures::cells);
        let [before, after] = self.work.map(milliseconds);
        write!(f, "{front:6} {entries:>7} {facts:>5} |{before:>6.0} {after:>5.0} |")?;
        write!(f, "{given} |{repeated} |{refused} |")?;
        match &self.idle {
            Some(Idle { records, ready, memory }) => write!(
                f,
                " {records:>7} {:>8.0} {:>9.1}",
                milliseconds(*ready),
                *memory as f64 / f64::from(1 << 20)
            ),
            None => Ok(()),
        }
    }
}

/// Runs all of it and prints one table.
pub fn bench(options: &Options) -> Result<()> {
    print_storage(&options.folder)?;
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{} clients at once, {} s a figure, times in ms", options.clients, options.seconds);
    println!("load before: {}\n{HEAD}", load().trim());
    for front in &options.front {
        for entries in &options.entries {
            for facts in &options.facts {
                // The small machines at every size, the large ones at one.
                if facts == &options.facts[0] || *entries == 10_000 {
                    println!("{}", measure(options, *front, *entries, *facts)?);
                }
            }
        }
    }
    println!("load after: {}", load().trim());
    Ok(())
}

/// So many records a server has when it is started again, if there are as many entries.
const RECORDS: usize = 10_000;

fn measure(options: &Options, front: Front, entries: usize, facts: usize) -> Result<Row> {
    let before = fixed_work();
    let folder = tempfile::Builder::new().prefix("bench-server.").tempdir_in(&options.folder)?;
    let programs = options.programs.as_deref();
    let programs = programs.map_or_else(crate::storm::release_programs, Programs::in_folder);
    let hall = Hall::new(folder.path(), Size { profiles: 1, entries }, front, programs)?;
    hall.start()?;
    if front == Front::Serve {
        hall.wait_until_ready()?;
    }
    let fleet = Fleet::read(&checkout().join("tests/fixtures/corpus"), facts)?;
    let door = hall.door();
    let span = Duration::from_secs(options.seconds);
    let request = |number: usize| Ok(door.upload_request(&fleet.facts(number, 1)?));
    // Prepared beforehand: making JSON is the clients' work, and not what is measured.
    let most = entries.min(20_000 * usize::try_from(options.seconds)?.div_ceil(4));
    let most = most.min(400_000_000 / (40 * facts.max(50)));
    let prepared: Vec<Vec<u8>> = (0..most).map(request).collect::<Result<_>>()?;
    let allocations = load_with(&door, options.clients, span, most, 200, |n| &prepared[n])?;
    let known = allocations.requests;
    let repeated =
        load_with(&door, options.clients, span, usize::MAX, 200, |n| &prepared[n % known])?;
    // Of a kind that no profile takes.
    let refused: Vec<Vec<u8>> = (0..2000)
        .map(|n| Ok(door.upload_request(&fleet.facts(10_000_001 + 2 * n, 2)?)))
        .collect::<Result<_>>()?;
    let refusals =
        load_with(&door, options.clients, span, usize::MAX, 422, |n| &refused[n % 2000])?;
    let idle = match front {
        Front::Cgi => None,
        Front::Serve => {
            let records = most.min(RECORDS).max(known);
            let rest = records - known;
            let long = Duration::from_secs(60);
            load_with(&door, options.clients, long, rest, 200, |n| &prepared[known + n])?;
            Some(idle(&hall, records)?)
        }
    };
    hall.stop()?;
    if front == Front::Cgi {
        // The program that answered for the others goes some seconds after the last of them, and
        // writes until then.
        std::thread::sleep(Duration::from_secs(5));
    }
    let work = [before, fixed_work()];
    Ok(Row { front, entries, facts, allocations, repeated, refusals, idle, work })
}

/// The time of a piece of work that is always the same, done on all processors at once: the
/// slowest of them counts. It is of the server's kind, many small texts in memory: what else the
/// host does slows that down far more than plain arithmetic.
fn fixed_work() -> Duration {
    let count = std::thread::available_parallelism().map_or(1, NonZero::get);
    let work = || {
        let begun = Instant::now();
        for round in 0..16_u64 {
            let texts = (0..40_000_u64).map(|n| ((n * 7919 + round) % 65_537).to_string());
            std::hint::black_box(texts.collect::<BTreeSet<String>>().len());
        }
        begun.elapsed()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|it| it.join().ok()).max().unwrap_or_default()
    })
}

/// Stops the server, starts it again, and looks at it when it has settled.
fn idle(hall: &Hall, records: usize) -> Result<Idle> {
    hall.stop()?;
    let started = Instant::now();
    hall.start()?;
    hall.wait_until_ready()?;
    let ready = started.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    let (memory, _) = hall.footprint()?;
    Ok(Idle { records, ready, memory })
}

/// Sends requests from `clients` threads until the time is over or `most` were sent; all answers
/// have to have `status`.
fn load_with<'a>(
    door: &Door,
    clients: usize,
    span: Duration,
    most: usize,
    status: u16,
    request: impl Fn(usize) -> &'a Vec<u8> + Sync,
) -> Result<Figures> {
    let next = AtomicUsize::new(0);
    let all: Mutex<Vec<Duration>> = Mutex::default();
    let wrong: Mutex<Option<String>> = Mutex::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut latencies = Vec::new();
                while begun.elapsed() < span {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= most {
                        break;
                    }
                    let sent = Instant::now();
                    let answer = door.send(request(number));
                    match answer {
                        Some(answer) if answer.status == status => latencies.push(sent.elapsed()),
                        other => {
                            let text = other.map(|it| {
                                format!("{}: {}", it.status, String::from_utf8_lossy(&it.body))
                            });
                            if let Ok(mut wrong) = wrong.lock() {
                                wrong.get_or_insert(text.unwrap_or_else(|| "none".to_owned()));
                            }
                        }
                    }
                }
                if let Ok(mut all) = all.lock() {
                    all.append(&mut latencies);
                }
            });
        }
    });
    let took = begun.elapsed();
    if let Some(answer) = wrong.into_inner().unwrap_or_default() {
        bail!("an answer was not {status}: {answer}");
    }
    let mut latencies = all.into_inner().unwrap_or_default();
    latencies.sort_unstable();
    Ok(Figures { requests: latencies.len(), took, latencies })
}

/// Says on what the figures are taken.
fn print_storage(folder: &Path) -> Result<()> {
    let found = run("findmnt", ["-no", "FSTYPE,SOURCE", "-T", &folder.to_string_lossy()])?;
    let kind = found.split_whitespace().next().unwrap_or_default();
    ensure!(
        !matches!(kind, "tmpfs" | "ramfs" | "overlay"),
        "{} lies on {kind}, where a sync costs nothing: name a folder of a disk with --folder",
        folder.display()
    );
    let file = tempfile::NamedTempFile::new_in(folder)?;
    let file: &File = file.as_file();
    let mut times = Vec::new();
    for number in 0..500_u64 {
        let begun = Instant::now();
        file.write_all_at(&[7; 4096], number * 4096)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "on {}; 4 KiB appended and fdatasync: p50 {:.2} ms, p99 {:.2} ms; a new file: {:.3} ms",
        found.split_whitespace().collect::<Vec<_>>().join(" "),
        milliseconds(times[250]),
        milliseconds(times[495]),
        milliseconds(new_file(folder)?),
    );
    Ok(())
}

/// What making an empty file takes. On an ext4 without a journal that is up to a millisecond
/// while many were deleted nearby in the last minutes, by the run before this one, say.
fn new_file(folder: &Path) -> Result<Duration> {
    let folder = tempfile::tempdir_in(folder)?;
    let begun = Instant::now();
    for number in 0..100 {
        File::create_new(folder.path().join(number.to_string()))?;
    }
    Ok(begun.elapsed() / 100)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
