//! A small service that is made to be run as a grain in the chaos of `scrap-chaos`: it writes down every entry with its node,
//! epoch and time before it acknowledges it, and beats all the time, so that two of it that run at once would show. Needs `PORT`,
//! `TRACE`, a folder outside of its data for its life's first and last moment, and `MOMENT`, the milliseconds between two moments.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use scrap_host::clock;

/// Moments between two beats in its data.
const BEAT: u32 = 10;
/// Longest time for a visitor to speak.
const PATIENCE: Duration = Duration::from_secs(2);

struct Ledger {
    node: String,
    epoch: String,
    path: PathBuf,
    file: Mutex<File>,
}

impl Ledger {
    /// Opens the data. A torn last line, which nobody was told of, is cut off.
    fn open(path: PathBuf, node: String, epoch: String) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        file.set_len(u64::try_from(whole)?)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { node, epoch, path, file: Mutex::new(file) })
    }

    /// Adds a line; with `sync` it is on disk afterwards.
    fn add(&self, what: &str, sync: bool) -> anyhow::Result<String> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{what} {} {} {}\n", self.node, self.epoch, clock::boot_time().0);
        // A failed write may leave a part of a line, for which the next one must not be taken.
        let start = file.seek(SeekFrom::End(0))?;
        let mut write = || {
            file.write_all(line.as_bytes())?;
            if sync { file.sync_data() } else { Ok(()) }
        };
        if let Err(error) = write() {
            file.set_len(start)?;
            return Err(error.into());
        }
        Ok(line)
    }

    fn answer(&self, stream: TcpStream) -> anyhow::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream);
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        let mut words = request.split(' ');
        let (status, body) = match (words.next(), words.next()) {
            (Some("GET"), Some("/all")) => ("200 OK", std::fs::read_to_string(&self.path)?),
            (Some("GET"), Some("/")) => ("200 OK", format!("{} {}\n", self.node, self.epoch)),
            (Some("POST"), Some(path)) => match path.strip_prefix("/write/").map(str::parse::<u64>)
            {
                Some(Ok(serial)) => match self.add(&format!("w {serial}"), true) {
                    Ok(line) => ("201 Created", line),
                    Err(error) => ("500 Internal Server Error", format!("{error:#}\n")),
                },
                Some(Err(_)) | None => ("404 Not Found", String::new()),
            },
            (_, _) => ("404 Not Found", String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let mut stream = reader.into_inner();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        Ok(())
    }
}

/// Writes down again and again that it lives: in its trace every moment, in its data every so many. A trace that somebody else
/// cannot see is worth nothing, so without one it ends.
fn live(ledger: &Ledger, trace: &File, moment_ms: u64) -> anyhow::Result<()> {
    let first = clock::boot_time().0;
    for moment in 0_u32.. {
        let line = format!("{first:>20} {:>20}\n", clock::boot_time().0);
        trace.write_all_at(line.as_bytes(), 0)?;
        if moment.is_multiple_of(BEAT) {
            // A full disk is told to whoever writes an entry.
            let _ = ledger.add("b", false);
        }
        thread::sleep(Duration::from_millis(moment_ms));
    }
    Ok(())
}

fn serve() -> anyhow::Result<()> {
    let setting = |name: &str| std::env::var(name).with_context(|| format!("{name} is missing"));
    let (grain, node, epoch) =
        (setting("SCRAP_GRAIN")?, setting("SCRAP_NODE")?, setting("SCRAP_EPOCH")?);
    let name = format!("{grain}.{node}.{epoch}.{}", clock::boot_time().0);
    let trace = File::create_new(PathBuf::from(setting("TRACE")?).join(name))?;
    let data = PathBuf::from(setting("SCRAP_DATA")?).join("ledger");
    let ledger = Arc::new(Ledger::open(data, node, epoch)?);
    let moment_ms = setting("MOMENT")?.parse()?;
    let living = Arc::clone(&ledger);
    thread::spawn(move || {
        if live(&living, &trace, moment_ms).is_err() {
            std::process::exit(1);
        }
    });
    let listener = TcpListener::bind(("0.0.0.0", setting("PORT")?.parse()?))?;
    for stream in listener.incoming() {
        let (stream, ledger) = (stream?, Arc::clone(&ledger));
        thread::spawn(move || {
            // A visitor who goes away is no trouble of ours.
            let _ = ledger.answer(stream);
        });
    }
    Ok(())
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A log that nobody reads must not be in the way.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
