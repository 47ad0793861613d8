//! `push` and `pull`: a file into a grain and out of it, by the program `dd` inside. No path of a machine is ever touched.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use scrap_schema::api::{ExecBody, ExecEnd};

use super::Ctx;
use super::exec::{Answer, framed};
use super::names::Noun;
use crate::cli::{Inside, PullArgs, PushArgs};
use crate::client::frames::Frame;
use crate::client::upload;
use crate::failure::Failure;
use crate::render::text::clean;

/// How much of what the program says is kept.
const SAID_MAX: usize = 4 << 10;
/// Status of a program that is not there.
const NOT_FOUND: i32 = 127;

fn copier(argument: String) -> ExecBody {
    let command = vec!["dd".to_owned(), "bs=65536".to_owned(), argument];
    ExecBody { command, ..ExecBody::default() }
}

/// Brings a file into a grain.
pub(crate) async fn push(ctx: &Ctx, args: PushArgs) -> Result<(), Failure> {
    let Inside { grain, path } = &args.to;
    let body = copier(format!("of={path}"));
    let call = framed(grain, "exec");
    let call = match args.file == Path::new("-") {
        true => call.stdin_after(&body),
        false => {
            let unreadable =
                |source| Failure::File { what: "cannot read", path: args.file.clone(), source };
            let about = std::fs::metadata(&args.file).map_err(unreadable)?;
            if about.is_dir() {
                return Err(folder(&args.file));
            }
            drop(std::fs::File::open(&args.file).map_err(unreadable)?);
            let mut first = serde_json::to_vec(&body).unwrap_or_default();
            first.push(b'\n');
            call.streamed(upload::file(first, args.file.clone(), Arc::default()))
        }
    };
    let opened = ctx.client.open(&call).await;
    let mut answer = Answer::of(ctx.named(opened, &[(Noun::Grain, grain)]).await?);
    let mut said = Vec::new();
    let end = loop {
        match answer.next().await? {
            Frame::Stdout(_) => (),
            Frame::Stderr(bytes) => keep(&mut said, &bytes),
            Frame::End(end) => break end,
        }
    };
    done(&end, &said, &args.to)?;
    ctx.print.note(&format!("{grain}:{} is written", clean(path)));
    Ok(())
}

/// Brings a file out of a grain.
pub(crate) async fn pull(ctx: &Ctx, args: PullArgs) -> Result<(), Failure> {
    let Inside { grain, path } = &args.from;
    let call = framed(grain, "exec").json_line(&copier(format!("if={path}")));
    let opened = ctx.client.open(&call).await;
    let mut answer = Answer::of(ctx.named(opened, &[(Noun::Grain, grain)]).await?);
    let mut target = Target::of(&args.file, path)?;
    let mut said = Vec::new();
    let end = loop {
        match answer.next().await? {
            Frame::Stdout(bytes) => target.write(ctx, &bytes)?,
            Frame::Stderr(bytes) => keep(&mut said, &bytes),
            Frame::End(end) => break end,
        }
    };
    done(&end, &said, &args.from)?;
    target.finish()
}

fn folder(path: &Path) -> Failure {
    Failure::Usage {
        message: format!("`{}` is a folder", path.display()),
        hint: Some("tar -c DIR | scrapctl exec NAME -- tar -x -C /path".to_owned()),
    }
}

fn keep(said: &mut Vec<u8>, bytes: &[u8]) {
    let room = SAID_MAX.saturating_sub(said.len());
    said.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
}

/// Whether the program inside did it, and if not, what it says.
fn done(end: &ExecEnd, said: &[u8], what: &Inside) -> Result<(), Failure> {
    if end.status == Some(0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(said);
    let first = said.lines().next().map(clean).filter(|line| !line.is_empty());
    let error = end.error.as_deref().map(clean);
    let why = first.or(error).unwrap_or_else(|| "it did not say why".to_owned());
    let needs = "this needs the program `dd` inside the grain".to_owned();
    Err(Failure::Local {
        message: format!("{}:{} was not copied: {why}", what.grain, clean(&what.path)),
        hint: (end.status == Some(NOT_FOUND)).then_some(needs),
    })
}

/// Where a file goes: whole, or not at all.
enum Target {
    Stdout,
    File { part: PathBuf, whole: PathBuf, file: std::fs::File },
}

impl Target {
    fn of(file: &Path, inside: &str) -> Result<Self, Failure> {
        if file == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let name = inside.rsplit('/').next().unwrap_or_default();
        let whole = if file.is_dir() { file.join(name) } else { file.to_owned() };
        let mut part = whole.clone().into_os_string();
        part.push(format!(".{}.part", uuid::Uuid::now_v7().simple()));
        let part = PathBuf::from(part);
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(&part);
        let file = opened.map_err(|source| unwritable(&part, source))?;
        Ok(Self::File { part, whole, file })
    }

    fn write(&mut self, ctx: &Ctx, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout => ctx.print.out_bytes(bytes),
            Self::File { part, file, .. } => {
                file.write_all(bytes).map_err(|source| unwritable(part, source))
            }
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        match &mut self {
            Self::Stdout => Ok(()),
            Self::File { part, whole, .. } => {
                std::fs::rename(&*part, &*whole).map_err(|source| unwritable(whole, source))
            }
        }
    }
}

/// What is not whole is not left behind. After a rename there is nothing of that name any more.
impl Drop for Target {
    fn drop(&mut self) {
        if let Self::File { part, .. } = self {
            drop(std::fs::remove_file(part));
        }
    }
}

fn unwritable(path: &Path, source: std::io::Error) -> Failure {
    Failure::File { what: "cannot write", path: path.to_owned(), source }
}
